"""How the agents of a rollout are now, read from the store: what they said, what was seen of them, what became of their
records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from crossdock_controller.pace import silent_seconds
from crossdock_controller.rollouts.model import AgentSeen, Counts, Rates, Rollout, Seen, SourceSeen
from crossdock_controller.store import agents, gauges, normalizer, sightings
from crossdock_controller.store.agents import AgentRow
from crossdock_controller.store.gauges import Gauge, Mark
from crossdock_controller.store.sightings import Sighting

HOUR_US = 3_600_000_000
_NEVER = Sighting("", 0, 0, "", 0, 0, "", 0, 0, "", "", (), 0)

_Names = tuple[str, str]  # agent and source


def observe(db: sqlite3.Connection, rollout: Rollout, now_us: int, listening_us: int, watching_us: int = 0) -> Seen:
    """What `decide` goes by. Reads only. What became of records is counted while it is judged by it, and not of a
    rollout that ended: that may be months ago."""
    listed = [row for row in agents.list_all(db) if row.state == "active"]
    wave_of = {site: i for i, wave in enumerate(rollout.plan.waves) for site in wave.sites}
    known = sightings.list_all(db)
    stuck = _stuck(db)
    judged = rollout.progress.begun if rollout.state in {"rolling", "held"} else ()
    counts = [_counts(gauges.since(db, Mark(w.mark_input, w.mark_letter))) for w in judged]
    hour = _hour(db, now_us) if _may_begin(rollout, now_us) else {}
    mark = gauges.now(db)
    found = []
    for row in listed:
        if row.site not in wave_of:
            continue
        index = wave_of[row.site]
        since = counts[index].get(row.agent, {}) if index < len(counts) else {}
        found.append(
            _agent(row, known.get(row.agent, _NEVER), stuck.get(row.agent, {}), since, hour.get(row.agent, {}))
        )
    return Seen(now_us, listening_us, silent_seconds(len(listed)), (mark.input, mark.letter), tuple(found), watching_us)


def _may_begin(rollout: Rollout, now_us: int) -> bool:
    """Whether the next step may begin a wave, which needs the hour before it."""
    begun = rollout.progress.begun
    if rollout.state != "rolling" or len(begun) == len(rollout.plan.waves):
        return False
    return not begun or bool(begun[-1].taken_us and now_us >= begun[-1].taken_us + rollout.plan.hold_seconds * 1e6)


def _agent(
    row: AgentRow, seen: Sighting, stuck: dict[str, str], counts: dict[str, Counts], hour: dict[str, Rates]
) -> AgentSeen:
    health: dict[str, Any] = json.loads(row.health) if row.health else {}
    effective = 0 if seen.runs_another else seen.effective
    return AgentSeen(
        row.agent, row.site, row.connected, row.last_seen_us, seen.starts, effective, seen.effective_us,
        seen.offered, seen.offered_us, seen.said_of, seen.said, seen.said_us, seen.reason, seen.log,
        int(health.get("at_us", 0)), tuple(health.get("problems", ())), _lag_seconds(health), _sources(health),
        stuck, counts, hour,
    )  # fmt: skip


def _sources(health: Mapping[str, Any]) -> dict[str, SourceSeen]:
    return {
        s["source"]: SourceSeen(s["state"], ": ".join(t for t in (s["error"], s["hint"]) if t), s["pending_records"])
        for s in health.get("sources", [])
    }


def _lag_seconds(health: Mapping[str, Any]) -> float:
    """Age of the oldest record in the outbox when the heartbeat came, both by the agent's clock."""
    oldest = health.get("outbox", {}).get("oldest_us", 0)
    if not oldest or "at_us" not in health:
        return 0.0
    age_us = int(health["at_us"]) + int(health["clock_offset_us"]) - int(oldest)
    return max(0.0, age_us / 1e6)


def _stuck(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for problem in normalizer.problems(db):
        found.setdefault(problem.agent, {})[problem.source] = problem.problem
    return found


def _counts(found: list[Gauge]) -> dict[str, dict[str, Counts]]:
    by_agent: dict[str, dict[str, Counts]] = {}
    for g in found:
        by_agent.setdefault(g.agent, {})[g.source] = Counts(g.records, g.dead, g.dead_deliveries, g.reason)
    return by_agent


def _hour(db: sqlite3.Connection, now_us: int) -> dict[str, dict[str, Rates]]:
    by_agent: dict[str, dict[str, Rates]] = {}
    for g in gauges.since(db, gauges.at(db, now_us - HOUR_US)):
        by_agent.setdefault(g.agent, {})[g.source] = Rates(g.records, g.dead, g.dead_deliveries)
    return by_agent
