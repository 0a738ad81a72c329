"""Sinks, as a person sees and steers them: pause, drain, resume, ask whether one can be reached."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from crossdock.errors import ConfigError, CrossdockError, Refused
from crossdock.redaction import KNOWN
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, replays, revisions, runs, sinks, targets, views
from crossdock_controller.store.sinks import Orders


@dataclass(frozen=True, slots=True)
class SinkDetails:
    """*circuit*: closed (it answers), open (it gave no verdict; it is asked with one delivery at *view.next_try_us*).
    *drain_left* of *drain_total* deliveries are still to be sent before it pauses. *policy* is what its file says of
    how it is served, *kind* is empty for a sink that the revision in force does not have."""

    view: views.SinkView
    kind: str
    policy: dict[str, Any]
    circuit: str
    drain_left: int
    drain_total: int
    per_second: float
    replay: int


@dataclass(frozen=True, slots=True)
class Checked:
    sink: str
    ok: bool
    text: str
    seconds: float


@served
def sinks_list(data: DataDirectory) -> list[views.SinkView]:
    """Every sink that was ever due something, by name."""
    with closing(connection.connect(data.state)) as db:
        return views.sinks(db)


@served
def sinks_show(data: DataDirectory, sink: str, *, now_us: int) -> SinkDetails:
    """Raises Refused when there is none of that name."""
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        number = _number(db, sink)
        view = next(v for v in views.sinks(db) if v.sink == sink)
        orders = sinks.orders(db, number)
        left = sinks.left_to_drain(db, number, orders.drain_seq, now_us) if orders.drain_seq else 0
        running = replays.running(db, number)
        kind, policy = _configured(db, sink)
        return SinkDetails(
            view, kind, policy, "open" if view.failures else "closed", left, max(left, orders.drain_total),
            runs.pace(db, number), running[0] if running else 0,
        )  # fmt: skip


@served
def pause(data: DataDirectory, sink: str, because: str, *, by: str, now_us: int) -> SinkDetails:
    """Nothing more is sent after the call in progress; what is due waits, and what comes joins it."""
    return _order(data, sink, "sinks.pause", Orders(True), because, by, now_us)


@served
def resume(data: DataDirectory, sink: str, because: str, *, by: str, now_us: int) -> SinkDetails:
    """Send again, whether it was paused or is being drained."""
    return _order(data, sink, "sinks.resume", Orders(False), because, by, now_us)


@served
def drain(data: DataDirectory, sink: str, because: str, *, by: str, now_us: int) -> SinkDetails:
    """Send what is due up to now, then pause. What the sink puts off to later, and what comes later, waits."""
    with closing(connection.connect(data.state)) as db:
        number, up_to = _number(db, sink), replays.last_seq(db)
        total = sinks.left_to_drain(db, number, up_to, now_us)
    said = Orders(False, up_to, total) if total else Orders(True)
    return _order(data, sink, "sinks.drain", said, because, by, now_us)


@served
def check(data: DataDirectory, sink: str) -> Checked:
    """Reach the sink of the revision in force, as the controller would; nothing is sent."""
    from crossdock_controller.dispatch import opener

    with closing(connection.connect(data.state)) as db:
        definition = _definition(db, sink)
        if definition is None:
            raise Refused(f"the revision in force has no sink {sink!r}", hint="crossdock sinks list shows their names")
    began = time.monotonic()
    ok = True
    try:
        opened, _ = opener(data)(sink, definition)
        try:
            text = opened.check()
        finally:
            opened.close()
    except CrossdockError as error:
        ok, text = False, str(error)
    except Exception as error:  # noqa: BLE001 - whatever the code of a sink raises is the answer to the question
        ok, text = False, f"{type(error).__name__}: {error}"
    return Checked(sink, ok, KNOWN.clean(text), time.monotonic() - began)


def _order(
    data: DataDirectory, sink: str, action: str, said: Orders, because: str, by: str, now_us: int
) -> SinkDetails:
    from crossdock_controller.store.wake import Waker

    with closing(connection.connect(data.state)) as db:
        number = _number(db, sink)
        with connection.transaction(db):
            sinks.order(db, number, replace(said, said_us=now_us, said_by=by, said_because=because.strip()))
            audit.append(db, actor=by, action=action, target=sink, details={"because": because.strip()}, now_us=now_us)
    with closing(Waker(data.state)) as waker:
        waker.wake("dispatch")
    return sinks_show(data, sink, now_us=now_us)


def _number(db: sqlite3.Connection, sink: str) -> int:
    number = sinks.known(db, sink)
    if number is not None:
        return number
    if _definition(db, sink) is not None:  # configured, and never due anything yet
        return sinks.sink_id(db, sink)
    raise Refused(f"there is no sink {sink!r}", hint="crossdock sinks list shows their names")


def _definition(db: sqlite3.Connection, sink: str) -> Any:
    from crossdock_controller.config.load import load

    tree = revisions.tree(db, targets.read(db).in_force)
    if tree is None:
        return None
    try:
        return load(tree).sinks.get(sink)
    except ConfigError:  # a tree of an older release that this one does not accept: its sinks are not served either
        return None


def _configured(db: sqlite3.Connection, sink: str) -> tuple[str, dict[str, Any]]:
    definition = _definition(db, sink)
    if definition is None:
        return "", {}
    said = definition.model_dump(exclude={"sink", "kind", "settings"}, exclude_defaults=True, mode="json")
    return definition.kind, said
