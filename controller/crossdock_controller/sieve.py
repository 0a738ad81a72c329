"""What of a run is not to be sent at all, by the policy of its sink: what a newer version of its key makes pointless,
what is older than its time to live, and what cannot be given the form that the sink takes.

Asked before each call of a sink that has such a policy, and settled before the rest is sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_controller.documents import versions
from crossdock_controller.judging import Policy
from crossdock_controller.store import dead_letters, deliveries, superseding
from crossdock_controller.store.deliveries import Failure, Picked, State, chain_of

_HOUR_US = 3_600_000_000


@dataclass(slots=True)
class Sifted:
    """A run, each delivery in exactly one of *rest* (to be sent), *superseded*, *expired* and *newer*."""

    rest: list[Picked] = field(default_factory=list)
    superseded: list[Picked] = field(default_factory=list)
    expired: dict[int, str] = field(default_factory=dict)  # event seq: why
    newer: list[Picked] = field(default_factory=list)
    chains: set[int] = field(default_factory=set)  # of those not in *rest*

    @property
    def idle(self) -> bool:
        return not self.chains


def sift(db: sqlite3.Connection, sink: int, run: Sequence[Picked], policy: Policy, now_us: int) -> Sifted:
    """A delivery of a replay was chosen by a person: it neither expires nor is superseded. One that a person retried
    after it expired is sent unless the sink has a newer version by now."""
    plain = [p for p in run if p.again is None]
    pointless = _with_newer(db, sink, [p for p in plain if p.document in policy.supersede], waiting=True)
    pointless |= _with_newer(db, sink, [p for p in run if p.again == 0], waiting=False)
    aged = [p for p in plain if p.document in policy.ttl_us]
    received = superseding.received_us(db, [p.event_seq for p in aged]) if aged else {}
    sifted = Sifted()
    for picked in run:
        if picked.event_seq in pointless:
            sifted.superseded.append(picked)
        elif picked.event_seq in received and (too_old := _too_old(picked, received, policy, now_us)):
            sifted.expired[picked.event_seq] = too_old
        elif (form := _formed(picked, policy)) is None:
            sifted.newer.append(picked)
        else:
            sifted.rest.append(form)
            continue
        sifted.chains.add(_chain(picked))
    return sifted


def settle(db: sqlite3.Connection, sink: int, sifted: Sifted, policy: Policy, now_us: int) -> None:
    """Persist what is not sent, and free what it held. In a transaction."""
    superseding.supersede(db, sink, [p.event_seq for p in sifted.superseded])
    superseding.expire(db, sink, sifted.expired, now_us)
    deliveries.fail(
        db,
        sink,
        [Failure(p.event_seq, _chain(p), State.DEAD, p.attempt, None, p.since_us) for p in sifted.newer],
    )
    letters = [(p.event_seq, "newer_version", _newer(p, policy)) for p in sifted.newer]
    dead_letters.add_deliveries(db, sink, letters, now_us)
    deliveries.settle(db, sink, sifted.chains, now_us)


def _formed(picked: Picked, policy: Policy) -> Picked | None:
    """*picked* in the version that the sink pinned; None when nothing leads there."""
    wanted = policy.versions.get(picked.document, picked.version)
    if wanted == picked.version:
        return picked
    try:
        body = versions.at(picked.document, picked.body, picked.version, wanted)
    except (ConfigError, *UNREADABLE):
        return None
    return msgspec.structs.replace(picked, body=body, version=wanted)


def _newer(picked: Picked, policy: Policy) -> str:
    taken = policy.versions[picked.document]
    return f"{picked.document} has version {picked.version}, and nothing leads to {taken}, which the sink takes"


def _with_newer(db: sqlite3.Connection, sink: int, run: list[Picked], *, waiting: bool) -> set[int]:
    return deliveries.with_newer(db, sink, [p.event_seq for p in run], waiting=waiting) if run else set()


def _too_old(picked: Picked, received: dict[int, int], policy: Policy, now_us: int) -> str:
    """Why it is not sent any more; empty while it may be."""
    lasts_us = policy.ttl_us[picked.document]
    age_us = now_us - received[picked.event_seq]
    if age_us <= lasts_us:
        return ""
    lasts = f"{picked.document} lasts {lasts_us / _HOUR_US:g} h (`ttl_hours`)"
    return f"received {age_us / _HOUR_US:.1f} h ago, and {lasts}"


def _chain(picked: Picked) -> int:
    return picked.chain if picked.chain is not None else chain_of(picked.document, picked.key)
