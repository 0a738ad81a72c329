"""`crossdock controller run`: the gateway and its workers, until told to stop."""

from __future__ import annotations

import click

from crossdock_controller.cli.options import data_option
from crossdock_controller.paths import DataDirectory


@click.group()
def controller() -> None:
    """The controller: one for all sites."""


@controller.command()
@data_option
@click.option("--listen", default="0.0.0.0:7443", show_default=True, metavar="HOST:PORT", help="Where agents connect.")
@click.option(
    "--enroll-listen", default="0.0.0.0:7444", show_default=True, metavar="HOST:PORT", help="Where new agents enrol."
)
@click.option("--advertise", default="", metavar="HOST", help="The name agents reach it by. [default: this host's]")
@click.option(
    "--certificate-hours", type=click.FloatRange(min=0.01), default=24.0, show_default=True, metavar="N",
    help="Life of an agent's certificate; it is renewed at two thirds.",
)  # fmt: skip
@click.option(
    "--retention-days", type=click.FloatRange(min=0.0), default=14.0, show_default=True, metavar="N",
    help="How long raw batches are kept, to normalize them again.",
)  # fmt: skip
def run(
    data: DataDirectory,
    listen: str,
    enroll_listen: str,
    advertise: str,
    certificate_hours: float,
    retention_days: float,
) -> None:
    """Run the controller until Ctrl-C or SIGTERM. One controller uses a data directory at a time."""
    from crossdock import telemetry
    from crossdock.lifecycle import Stop, stop_on_signals
    from crossdock_controller.processes import ControllerSettings, run_controller

    for name, value in (("--listen", listen), ("--enroll-listen", enroll_listen)):
        if not value.rpartition(":")[2].isdigit():
            raise click.BadParameter(f"{value!r} is not HOST:PORT", param_hint=name)
    telemetry.configure("controller")
    stop = Stop()
    stop_on_signals(stop)
    run_controller(
        ControllerSettings(
            data=data.root, listen=listen, enroll_listen=enroll_listen, advertise=advertise,
            certificate_hours=certificate_hours, retention_days=retention_days,
        ),
        stop,
    )  # fmt: skip
