"""What a person sees when something goes wrong: what it was, and the next step. A traceback only when asked for."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from crossdock.errors import CrossdockError
from crossdock_controller import exits
from crossdock_controller.store.faults import StoreDamaged, of
from crossdock_controller.store.holder import HolderLost

PROBLEM = 1  # exit codes: 0 fine, 1 a problem that the message names, 2 wrong usage (click's own), more in `exits`
TRACEBACK = "CROSSDOCK_TRACEBACK"  # set to see where an error came from


@contextmanager
def shown() -> Iterator[None]:
    """Errors of ours, and the usual ones of the system, become a message with its hint and exit code 1."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except (CrossdockError, sqlite3.Error, OSError) as error:
        if os.environ.get(TRACEBACK):
            raise
        message, hint = explained(error)
        say(message, hint)
        raise click.exceptions.Exit(code_of(error)) from error


def code_of(error: BaseException) -> int:
    if isinstance(of(error, Path()), StoreDamaged):
        return exits.DAMAGED
    return exits.TAKEN if isinstance(error, HolderLost) else PROBLEM


def explained(error: BaseException) -> tuple[str, str]:
    """(message, hint) of an error that is shown to a person."""
    if isinstance(error, CrossdockError):
        return error.message, error.hint
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}", "check the path, and that this user may use it (CROSSDOCK_DATA, --data)"
    return str(error) or type(error).__name__, f"set {TRACEBACK}=1 to see where it came from"


def say(message: str, hint: str = "") -> None:
    """An error on stderr: the word in red, the next step below."""
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
    if hint:
        click.echo(click.style("  next: ", fg="yellow") + hint, err=True)


def _of_sqlite(error: sqlite3.Error) -> tuple[str, str]:
    text = str(error)
    if "locked" in text:
        return f"the store is busy: {text}", "try again in a moment"
    if "no such table" in text or "no such column" in text:
        return f"the store has another schema: {text}", "start the controller once: it brings the schema up to date"
    if "malformed" in text or "not a database" in text:
        return (
            f"the store is damaged: {text}",
            "stop the controller, and restore the data directory from a backup: crossdock restore DIR",
        )
    return f"the store cannot be used: {text}", f"set {TRACEBACK}=1 to see where it came from"
