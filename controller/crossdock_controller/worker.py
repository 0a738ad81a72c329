"""A worker process: `python -m crossdock_controller.worker --role normalize|dispatch --data DIR`.

It ends on a signal, and when its standard input closes: however the controller dies, its workers leave with it.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import click
from loguru import logger

from crossdock import telemetry
from crossdock.lifecycle import Stop, stop_on_signals
from crossdock_controller.dispatch import run_dispatcher
from crossdock_controller.normalize import run_normalizer
from crossdock_controller.paths import DataDirectory

_ROLES = {"normalize": run_normalizer, "dispatch": run_dispatcher}


@click.command()
@click.option("--role", type=click.Choice(sorted(_ROLES)), required=True)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
def run(role: str, data: Path) -> None:
    """Normalize or dispatch until standard input closes."""
    telemetry.configure(role, level=os.environ.get("CROSSDOCK_LOG_LEVEL", "INFO"))
    # Rounds make tens of thousands of tuples and no cycles: to look for some every 700 of them costs up to a tenth.
    gc.set_threshold(100_000, 50, 50)
    stop = Stop()
    stop_on_signals(stop)
    threading.Thread(target=_leave_with_parent, args=(stop,), name="leash", daemon=True).start()
    logger.bind(pid=os.getpid()).info("{} worker is up", role)
    _ROLES[role](DataDirectory(data), stop)
    logger.info("{} worker ended", role)


def _leave_with_parent(stop: Stop) -> None:
    # By descriptor: a buffered read in a daemon thread would hold its lock through the interpreter's shutdown.
    try:
        while os.read(0, 1024):
            pass
    except OSError as error:
        logger.warning("standard input cannot be read, ending: {}", error)
    stop.set()


def main(arguments: Sequence[str] | None = None) -> None:
    run.main(args=list(arguments) if arguments is not None else None, prog_name="worker")


if __name__ == "__main__":
    main()
