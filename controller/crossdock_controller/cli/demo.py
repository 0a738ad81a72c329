"""`crossdock demo`: nothing to install, nothing to configure, nothing left behind."""

from __future__ import annotations

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running at the end, to play with; Ctrl-C ends it.")
@click.option(
    "--speed", type=click.FloatRange(min=0.25, max=20), default=1.0, show_default=True, metavar="N",
    help="Tell it N times as fast, with fewer records.",
)  # fmt: skip
def demo(keep: bool, speed: float) -> None:
    """A small distributor on a busy day, told in about a minute: two sites, three systems, one crash, no loss.

    Everything runs in a temporary directory and on ports of 127.0.0.1, and is gone afterwards.
    """
    from crossdock_controller.demo import Options, run_demo

    run_demo(Options(keep=keep, speed=speed))
