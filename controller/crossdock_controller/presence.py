"""What the controller writes down of itself: its start and end, heads of the audit log, and, once in the life of a
store, the first admin.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import click
from loguru import logger

from crossdock import __version__
from crossdock.errors import CrossdockError
from crossdock_controller import apitokens, heads, machine
from crossdock_controller.access import ALL, Grant
from crossdock_controller.authority import Authority, write_private
from crossdock_controller.paths import DataDirectory
from crossdock_controller.private import protect
from crossdock_controller.store import audit, connection, facts, people

ACTOR = "controller"
ADMIN = "admin"
FIRST_TTL_SECONDS = 7 * 86_400.0
FIRST_NAME = "first"  # of the token
_MADE = "first_admin"  # a fact of the store: a restored or emptied list of users gets no second one
_SAID_SECONDS = 3600.0  # between two lines of the log that name the head


@contextmanager
def noted(data: DataDirectory, details: Mapping[str, object]) -> Iterator[None]:
    """The controller runs: an entry at the start and one at the end, under its fence. A kill leaves the second out."""
    about = {"version": __version__, "host": machine.host(), "pid": os.getpid(), **details}
    _attempted(lambda: first_admin(data, time.time_ns() // 1000), "the first admin is not made yet")
    _attempted(lambda: _note(data, "controller.start", about), "the start is not in the audit log")
    try:
        yield
    finally:
        _attempted(lambda: _note(data, "controller.stop", {"pid": os.getpid()}), "the end is not in the audit log")


def _attempted(step: Callable[[], None], otherwise: str) -> None:
    """On a full disk, or fenced off, the controller starts and ends all the same, and says what it could not do."""
    try:
        step()
    except (CrossdockError, sqlite3.Error, OSError) as error:
        logger.warning("{}: {}", otherwise, error)


def _note(data: DataDirectory, action: str, details: Mapping[str, object]) -> None:
    now_us = time.time_ns() // 1000
    with closing(connection.connect(data.state, fence=data.holder)) as db, connection.transaction(db):
        audit.append(db, actor=ACTOR, action=action, details=details, now_us=now_us)
    Witness(data, Authority.open(data.authority)).step()


def first_admin(data: DataDirectory, now_us: int, terminal: Callable[[], bool] | None = None) -> None:
    """At the first start of a store: a user who may do everything, and a token that is shown once.

    On the terminal when standard error is one, else in a file that only its owner can read and that goes with the
    first use. It is written before the user is: a crash between the two leaves a file that the next start replaces.
    """
    with closing(connection.connect(data.state, fence=data.holder)) as db:
        if facts.get(db, _MADE) is not None or people.list_all(db):
            return
        token, digest = apitokens.make()
        shown = (terminal or _terminal)()
        if not shown:
            write_private(data.first_token, token.encode() + b"\n")
            protect(data.first_token)
        with connection.transaction(db):
            _make(db, digest, now_us)
    if shown:
        click.echo(f"\nThe first admin's API token, shown once, for {FIRST_TTL_SECONDS / 86_400:.0f} days:\n", err=True)
        click.echo(f"    {token}\n", err=True)
        click.echo("Make users of your own with it: crossdock users add NAME --role admin --on all\n", err=True)
    else:
        logger.info("the first admin's token lies in {} until it is used", data.first_token)


def _make(db: sqlite3.Connection, digest: bytes, now_us: int) -> None:
    expires_us = now_us + int(FIRST_TTL_SECONDS * 1_000_000)
    user = people.User(ADMIN, "", "", disabled=False, created_us=now_us, created_by=ACTOR, grants=[Grant("admin", ALL)])
    people.add(db, user)
    id_ = people.token_id(digest)
    people.add_token(db, digest, people.TokenRow(id_, ADMIN, FIRST_NAME, now_us, ACTOR, expires_us, 0, 0))
    facts.put(db, _MADE, id_.encode())
    details = {"grants": [f"admin on {ALL}"], "token": id_, "expires_us": expires_us}
    audit.append(db, actor=ACTOR, action="users.add", target=ADMIN, details=details, now_us=now_us)


def first_token_id(db: sqlite3.Connection) -> str:
    """Of the first admin's token; empty when there never was one."""
    return (facts.get(db, _MADE) or b"").decode()


def _terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class Witness:
    """Writes the newest head of the audit log beside the store, when it has changed."""

    def __init__(self, data: DataDirectory, authority: Authority) -> None:
        self._data = data
        self._authority = authority
        self._written = (0, b"")
        self._said = float("-inf")

    def step(self) -> None:
        """Blocking. Raises OSError and sqlite3.Error; the next step does what this one could not."""
        with closing(connection.connect(self._data.state)) as db:
            seq, digest = audit.head(db)
        if (seq, self._authority.bundle) == self._written:  # another authority signs anew
            return
        heads.append(self._data.audit_heads, self._authority, seq, digest, time.time_ns() // 1000)
        self._written = (seq, self._authority.bundle)
        if time.monotonic() - self._said > _SAID_SECONDS:  # logs are kept elsewhere: a third place
            self._said = time.monotonic()
            logger.bind(seq=seq, hash=digest.hex()).info("head of the audit log")
