"""Throughput, lag and backlog, as differences between two looks at the store."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands.fleet import AgentView, judged
from crossdock_controller.commands.status import controller_view
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import agents, connection, dead_letters, normalizer, views


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: totals that only grow, and what waits at this moment."""

    at_us: int
    controller: str
    received: dict[tuple[str, str], int]  # records, by (site, source)
    normalized: dict[tuple[str, str], int]
    oldest_us: dict[tuple[str, str], int]  # received, not normalized; 0 when nothing waits
    run_id: int
    done: dict[str, int]  # deliveries since the look before, by sink
    sinks: list[views.SinkView]
    agents: list[AgentView]
    dead: int


@dataclass(frozen=True, slots=True)
class SourceRate:
    """Records a second over the interval; what waits now, and for how long the oldest has."""

    site: str
    source: str
    received_per_second: float
    normalized_per_second: float
    outbox_records: int
    waiting_records: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class SinkRate:
    sink: str
    delivered_per_second: float
    pending: int
    retrying: int
    held: int
    dead: int
    lag_seconds: float
    problem: str


@dataclass(frozen=True, slots=True)
class Top:
    at_us: int
    seconds: float
    controller: str
    received_per_second: float
    normalized_per_second: float
    delivered_per_second: float
    sources: list[SourceRate]
    sinks: list[SinkRate]
    dead: int
    agents: list[AgentView]  # those with something to say of their outbox


@served
def measure(
    data: DataDirectory, interval: Annotated[float, Meta(ge=0.01, le=30.0)] = 1.0, within: Sites = EVERYWHERE
) -> Top:
    """Look twice, *interval* seconds apart."""
    before = sample(data, time.time_ns() // 1000, within=within)
    time.sleep(interval)
    return between(before, sample(data, time.time_ns() // 1000, before, within))


def sample(data: DataDirectory, now_us: int, before: Sample | None = None, within: Sites = EVERYWHERE) -> Sample:
    """Look now; deliveries are counted since *before*. Sinks are those of all sites."""
    with closing(connection.connect(data.state)) as db:
        decided = {i: c.at for i, c in normalizer.checkpoints(db).items()}
        finished = views.finished(db, before.run_id if before is not None else None)
        sinks = views.sinks(db)
        fleet = [agent for agent in judged(agents.list_all(db), now_us) if within(agent.site)]
        dead = sum(letters for site, _, _, _, letters, _ in dead_letters.summary(db) if within(site))
    received: dict[tuple[str, str], int] = {}
    normalized: dict[tuple[str, str], int] = {}
    oldest: dict[tuple[str, str], int] = {}
    for stream in _streams(data, decided):
        if not within(stream.site):
            continue
        key = (stream.site, stream.source)
        received[key] = received.get(key, 0) + stream.records
        normalized[key] = normalized.get(key, 0) + stream.records - stream.waiting_records
        waits = [us for us in (oldest.get(key, 0), stream.oldest_us if stream.waiting_records else 0) if us]
        oldest[key] = min(waits, default=0)
    controller = controller_view(data).state
    return Sample(now_us, controller, received, normalized, oldest, finished.run_id, finished.done, sinks, fleet, dead)


def _stopped(sink: views.SinkView) -> str:
    """What a person said of it, where it sends nothing, or soon will not."""
    if not (sink.paused or sink.draining):
        return ""
    because = f": {sink.said_because}" if sink.said_because else ""
    return ("paused" if sink.paused else "draining") + (f" by {sink.said_by}{because}" if sink.said_by else "")


def between(before: Sample, after: Sample) -> Top:
    """Rates from *before* to *after*, and what waits at *after*."""
    seconds = max(0.001, (after.at_us - before.at_us) / 1e6)
    outboxes: dict[tuple[str, str], int] = {}
    for agent in after.agents:
        if agent.state != "revoked":
            for source in agent.sources:
                key = (agent.site, source.source)
                outboxes[key] = outboxes.get(key, 0) + source.pending_records
    sources = [
        SourceRate(
            *key,
            _rate(before.received, after.received, key, seconds),
            _rate(before.normalized, after.normalized, key, seconds),
            outboxes.get(key, 0),
            after.received.get(key, 0) - after.normalized.get(key, 0),
            _lag(after.oldest_us.get(key, 0), after.at_us),
        )
        for key in sorted({*after.received, *outboxes})
    ]
    sinks = [
        SinkRate(
            s.sink, after.done.get(s.sink, 0) / seconds, s.pending, s.retrying, s.held, s.dead,
            _lag(s.oldest_us, after.at_us), s.problem or _stopped(s),
        )
        for s in after.sinks
    ]  # fmt: skip
    return Top(
        after.at_us, seconds, after.controller, sum(s.received_per_second for s in sources),
        sum(s.normalized_per_second for s in sources), sum(s.delivered_per_second for s in sinks), sources, sinks,
        after.dead, [a for a in after.agents if a.own_problems or a.outbox.fills_at_us or a.outbox.drained_at_us],
    )  # fmt: skip


def _streams(data: DataDirectory, decided: dict[int, normalizer.Position]) -> list[views.StreamView]:
    if not data.intake.exists():
        return []
    with closing(views.open_intake(data.intake)) as intake:
        return views.streams(intake, decided)


def _rate(
    before: dict[tuple[str, str], int], after: dict[tuple[str, str], int], key: tuple[str, str], seconds: float
) -> float:
    return max(0, after.get(key, 0) - before.get(key, 0)) / seconds


def _lag(since_us: int, now_us: int) -> float:
    return max(0.0, (now_us - since_us) / 1e6) if since_us else 0.0
