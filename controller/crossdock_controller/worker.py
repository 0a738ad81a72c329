"""A worker process: `python -m crossdock_controller.worker --role normalize|dispatch --data DIR`.

It ends on a signal, and when its standard input closes: however the controller dies, its workers leave with it.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click
from loguru import logger

from crossdock import telemetry
from crossdock.errors import CrossdockError, Retryable
from crossdock.lifecycle import Stop, stop_on_signals
from crossdock_controller import exits
from crossdock_controller.dispatch import run_dispatcher
from crossdock_controller.normalize import run_normalizer
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.working import run as run_preview
from crossdock_controller.store import faults
from crossdock_controller.store.holder import HolderLost
from crossdock_controller.store.room import MIN_FREE_DISK_BYTES
from crossdock_controller.trial import CANNOT_TRY, limit_memory, run_trials


@click.command()
@click.option("--role", type=click.Choice(["dispatch", "normalize", "trial", "preview"]), required=True)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--holder", default="", help="Id of the controller in whose name it writes.")
@click.option("--min-free-disk", type=click.IntRange(min=0), default=MIN_FREE_DISK_BYTES)
@click.option("--round-seconds", type=click.FloatRange(min=0.1), default=60.0)
def run(role: str, data: Path, holder: str, min_free_disk: int, round_seconds: float) -> None:
    """Normalize or dispatch until standard input closes."""
    telemetry.configure(role, level=os.environ.get("CROSSDOCK_LOG_LEVEL", "INFO"))
    # Rounds make tens of thousands of tuples and no cycles: to look for some every 700 of them costs up to a tenth.
    gc.set_threshold(100_000, 50, 50)
    if role in ("trial", "preview"):
        try:
            serve = run_trials if role == "trial" else run_preview
            serve(DataDirectory(data), sys.stdin.buffer, sys.stdout.buffer)
        except (sqlite3.Error, OSError, CrossdockError) as error:
            logger.warning("a {} is not possible now: {}", role, error)
            sys.exit(CANNOT_TRY)
        return
    stop = Stop()
    stop_on_signals(stop)
    threading.Thread(target=_leave_with_parent, args=(stop,), name="leash", daemon=True).start()
    logger.bind(pid=os.getpid()).info("{} worker is up", role)
    directory = DataDirectory(data, holder)
    try:
        if role == "normalize":
            limit_memory()
            run_normalizer(directory, stop, min_free_disk_bytes=min_free_disk, round_seconds=round_seconds)
        else:
            run_dispatcher(directory, stop)
    except (Retryable, sqlite3.Error, OSError, faults.StoreDamaged, HolderLost) as error:
        sys.exit(_ended(role, directory, error))
    logger.info("{} worker ended", role)


def _ended(role: str, data: DataDirectory, error: Exception) -> int:
    """The exit code that tells the controller what to do next. One line: a store that is full must not fill up with
    tracebacks."""
    found = faults.of(error, data.state) or error
    if isinstance(found, faults.StoreDamaged):
        logger.error("{} worker ends: {}", role, found)
        return exits.DAMAGED
    if isinstance(found, HolderLost):
        logger.error("{} worker ends: {}", role, found)
        return exits.TAKEN
    logger.warning("{} worker ends and will be started again: {!s}", role, found)
    return 1


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
