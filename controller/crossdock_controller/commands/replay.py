"""Replays: events that a person has sent to a sink again, or for the first time, on purpose."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, structs

from crossdock.errors import ConfigError, Refused
from crossdock_controller.commands.trace import _kind
from crossdock_controller.documents.base import entities
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, replays, sinks
from crossdock_controller.store import trace as traces
from crossdock_controller.store.replays import Chosen, Counts, Replay

MOST = 1000


@dataclass(frozen=True, slots=True)
class Begun:
    """*replay* is None after a dry run, and when there was nothing to send."""

    sink: str
    counts: Counts
    replay: Replay | None = None


@served
def replay_events(
    data: DataDirectory,
    sink: str,
    chosen: Chosen,
    because: str,
    *,
    by: str,
    now_us: int,
    rate: Annotated[float, Meta(ge=0.0, le=1_000_000.0)] = 0.0,
    dry_run: bool = False,
) -> Begun:
    """Count what *chosen* comes to, and begin it unless it is a *dry_run*. *rate* deliveries a second, 0 for no limit.
    Raises Refused for what cannot be meant."""
    _sound(chosen, because, dry_run=dry_run)
    if chosen.document:
        chosen = structs.replace(chosen, document=_one_kind(data, chosen.document))
    with closing(connection.connect(data.state)) as db:
        number = sinks.known(db, sink)
        if number is None:
            raise Refused(f"no sink {sink!r} was ever served", hint="crossdock sinks list shows their names")
        until = replays.last_seq(db)
        with connection.snapshot(db):
            counts = replays.count(db, number, chosen, until)
        found = None
        with connection.transaction(db):
            if counts.send and not dry_run:
                started = replays.add(
                    db, number, chosen, because=because.strip(), by=by, rate=rate, total=counts.send,
                    until_seq=until, now_us=now_us,
                )  # fmt: skip
                found = replays.get(db, started)
            details = {"because": because.strip(), "send": counts.send, "dry_run": dry_run}
            target = str(found.id) if found is not None else sink
            audit.append(db, actor=by, action="replay.events", target=target, details=details, now_us=now_us)
    _wake(data)
    return Begun(sink, counts, found)


@served
def replay_list(data: DataDirectory, limit: Annotated[int, Meta(ge=1, le=MOST)] = 50) -> list[Replay]:
    """Newest first."""
    with closing(connection.connect(data.state)) as db:
        return replays.newest(db, limit)


@served
def replay_show(data: DataDirectory, replay: int) -> Replay:
    """Raises Refused when there is none of that number."""
    with closing(connection.connect(data.state)) as db:
        return replays.get(db, replay)


@served
def replay_cancel(data: DataDirectory, replay: int, *, by: str, now_us: int) -> Replay:
    """Nothing more of it is sent but what its sink is being given right now. Raises Refused when it is over."""
    with closing(connection.connect(data.state)) as db:
        with connection.transaction(db):
            taken_back = replays.cancel(db, replay, by, now_us)
            details = {"taken_back": taken_back}
            audit.append(db, actor=by, action="replay.cancel", target=str(replay), details=details, now_us=now_us)
        found = replays.get(db, replay)
    _wake(data)
    return found


def _one_kind(data: DataDirectory, word: str) -> str:
    """The kind that *word* means. Raises Refused for one that is none, or several: nothing would be chosen."""
    try:
        kind = _kind(data, word)
    except ConfigError as error:
        raise Refused(error.message, hint=error.hint) from error
    with closing(connection.connect(data.state)) as db:
        known = {*traces.documents(db), *entities()}
    if kind not in known:
        several = ", ".join(sorted(name for name in known if name.endswith(kind)))
        raise Refused(f"{word!r} may be several kinds of document", hint=f"one of {several}")
    return kind


def _sound(chosen: Chosen, because: str, *, dry_run: bool) -> None:
    if not because.strip() and not dry_run:
        raise Refused("a replay needs a reason", hint="--because TEXT; it stays on record")
    if chosen.all_versions and not chosen.again:
        raise Refused("all versions of what a sink has are sent only again", hint="add --again")
    if chosen.since_us and chosen.until_us and chosen.since_us >= chosen.until_us:
        raise Refused("the window ends before it begins", hint="--since comes before --until")


def _wake(data: DataDirectory) -> None:
    from crossdock_controller.store.wake import Waker

    with closing(Waker(data.state)) as waker:
        waker.wake("dispatch")
