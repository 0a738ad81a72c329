"""Drift: agents that run something else than they should, since when, and the reason they gave."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import agents, connection, sightings, targets
from crossdock_controller.store.sightings import Sighting
from crossdock_controller.store.targets import Targets

SETTLE_SECONDS = 10.0  # an offer younger than this is on its way


@dataclass(frozen=True, slots=True)
class Drift:
    """*desired* is what the site is to run, *offered* what the agent was last asked to, *applied* what it last said it
    had applied, *effective* what it runs (0: nothing, or not known); they differ since *since_us*. *kind*: refused,
    applying, offline, other (it runs another content under the number it should run) or behind."""

    agent: str
    site: str
    kind: str
    desired: int
    offered: int
    applied: int
    effective: int
    since_us: int
    reason: str
    log: tuple[str, ...] = ()


@served
def drift(data: DataDirectory, now_us: int) -> list[Drift]:
    """By agent; empty when each runs what it should. Agents that never connected are not among them."""
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        wanted = targets.read(db)
        rows = [row for row in agents.list_all(db) if row.state == "active" and row.last_seen_us]
        known = sightings.list_all(db)
    found = [_drift(row, known.get(row.agent), wanted, now_us) for row in rows]
    return [d for d in found if d is not None]


def _drift(row: agents.AgentRow, seen: Sighting | None, wanted: Targets, now_us: int) -> Drift | None:
    desired = wanted.of(row.site)
    if seen is None or not desired:
        return None
    other = seen.effective == desired and seen.runs_another
    if seen.effective == desired and not other:
        return None
    since = max(seen.offered_us if seen.offered == desired else 0, seen.effective_us)
    kind, reason = _kind(row, seen, desired, other)
    if kind == "behind" and (now_us - since) / 1e6 < SETTLE_SECONDS:
        kind, reason = "applying", "it was offered just now"
    applied = seen.said_of if seen.said == "applied" else seen.effective
    log = seen.log if kind == "refused" else ()
    return Drift(row.agent, row.site, kind, desired, seen.offered, applied, seen.effective, since, reason, log)


def _kind(row: agents.AgentRow, seen: Sighting, desired: int, other: bool) -> tuple[str, str]:
    """(kind, reason)."""
    if other:
        return "other", "what it runs has another digest than what it was offered"
    if seen.said_of == desired and seen.said == "failed":
        return "refused", seen.reason or "it gave no reason"
    if not row.connected:
        return "offline", f"not connected; it gets revision {desired} when it comes back"
    if seen.said_of == desired and seen.said == "applying":
        return "applying", "it is applying it"
    if seen.offered != desired:
        return "behind", f"it was not offered revision {desired}: is site {row.site} in it?"
    return "behind", "it was offered it and has not said what became of it"
