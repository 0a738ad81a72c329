"""The fleet: who may send, who does, and what each agent last said of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands import identity
from crossdock_controller.pace import silent_seconds
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import agents as rows
from crossdock_controller.store import audit, connection, strangers

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")  # as in the configuration tree
CLOCK_SECONDS = 5.0  # an agent's clock this far from ours is a problem to mention
EXPIRY_SECONDS = 3600.0
FAR_HOURS = 90 * 24  # an outbox that fills later than this has no forecast


@dataclass(frozen=True, slots=True)
class OutboxHealth:
    batches: int = 0
    records: int = 0
    bytes: int = 0
    limit_bytes: int = 0
    disk_free_bytes: int = 0
    oldest_us: int = 0
    fills_at_us: int = 0  # by our clock; 0: not at the present rates, or not known
    drained_at_us: int = 0
    in_bytes_per_hour: int | None = None  # None: not known
    out_bytes_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class SourceHealth:
    source: str
    state: str
    records: int
    pending_records: int
    last_read_us: int
    error: str
    hint: str
    counters: dict[str, int]
    blocked_since_us: int = 0
    throttled_by: str = ""
    paused_since_us: int = 0  # by the agent's clock; 0 unless a person has paused it
    paused_by: str = ""


@dataclass(frozen=True, slots=True)
class LimitHealth:
    """One limit of an agent as a whole, in words, and whether it holds something back now."""

    resource: str
    limit: str
    used: str
    throttling: bool
    waiting_bytes: int
    throttled_seconds: int

    @property
    def sentence(self) -> str:
        """ "throttled by bandwidth: 250 KB/s of 256 KB/s (mon-fri 08:00-18:00), 12.3 MB wait in the outbox"."""
        waits = f", {self.waiting_bytes / 1e6:.1f} MB wait in the outbox" if self.waiting_bytes else ""
        return f"throttled by {self.resource}: {self.used} of {self.limit}{waits}"


@dataclass(frozen=True, slots=True)
class AgentView:
    """*state*: connected, silent (a heartbeat is overdue), offline, enrolled (never seen yet), revoked, or unknown: it
    has a certificate of ours and is on no list, as one that enrolled after the backup this store was restored from."""

    agent: str
    site: str
    state: str
    last_seen_us: int
    host: str
    platform: str
    version: str
    revision: int
    desired_revision: int
    config_state: str
    config_reason: str
    certificate_expires_us: int
    clock_offset_us: int
    outbox: OutboxHealth
    sources: list[SourceHealth] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    own_problems: list[str] = field(default_factory=list)  # those of them that the agent put into words itself
    limits: list[LimitHealth] = field(default_factory=list)


@served
def agents(data: DataDirectory, now_us: int, within: Sites = EVERYWHERE) -> list[AgentView]:
    """Every agent that ever enrolled, by name; after them those that knock and are on no list (of no site: for who sees
    every site)."""
    with closing(connection.connect(data.state)) as db:
        fleet = judged(rows.list_all(db), now_us, identity.refused(db, now_us))
        unknown = [_unknown(stranger) for stranger in strangers.list_all(db) if within.everything]
        return [agent for agent in fleet if within(agent.site)] + unknown


@served
def adopt(data: DataDirectory, agent: str, site: str, now_us: int, *, by: str) -> str:
    """Put an unknown *agent* on the list again, at *site* (by default named like it); its site. Raises ConfigError when
    none of that name has knocked with a certificate of ours, or it is on the list."""
    site = site or agent
    if not NAME.fullmatch(site):
        raise ConfigError(f"site {site!r} cannot be a name", hint="use small letters, digits, dots and dashes")
    with closing(connection.connect(data.state)) as db:
        if rows.get(db, agent) is not None:
            raise ConfigError(
                f"agent {agent!r} is on the list", hint="one that was revoked enrols anew: crossdock token create"
            )
        knocked = {s.agent: s for s in strangers.list_all(db)}
        if agent not in knocked:
            raise ConfigError(
                f"no unknown agent {agent!r} has knocked with a certificate of this controller",
                hint="'crossdock agents' shows those that have, a minute after the controller started",
            )
        with connection.transaction(db):
            rows.record_enrolled(
                db, agent, site, host=knocked[agent].peer, platform="", version="", expires_us=0, now_us=now_us
            )
            strangers.forget(db, agent)
            audit.append(db, actor=by, action="agents.adopt", target=agent, details={"site": site}, now_us=now_us)
    return site


def _unknown(stranger: strangers.Stranger) -> AgentView:
    return AgentView(
        stranger.agent, "-", "unknown", stranger.last_us, stranger.peer, "", "", 0, 0, "", "", 0, 0, OutboxHealth(),
        problems=["is refused: it has a certificate of this controller and is on no list. Did it enrol after the "
                  "backup that was restored?"],
    )  # fmt: skip


def judged(
    fleet: Sequence[rows.AgentRow], now_us: int, refused: Mapping[str, Sequence[str]] | None = None
) -> list[AgentView]:
    """What rows and last heartbeats say, judged at *now_us*. *fleet* is all of it: its size decides who is silent.
    *refused*: what was refused under the name of an agent (`identity.refused`)."""
    patience = silent_seconds(sum(row.state == "active" for row in fleet))
    told = refused or {}
    return [_view(row, now_us, patience, told.get(row.agent, ())) for row in fleet]


def _view(row: rows.AgentRow, now_us: int, patience_seconds: float, refused: Sequence[str]) -> AgentView:
    health: dict[str, Any] = json.loads(row.health) if row.health else {}
    sources = [
        SourceHealth(
            s["source"], s["state"], s["records"], s["pending_records"], s["last_read_us"], s["error"], s["hint"],
            s["counters"], s.get("blocked_since_us", 0), s.get("throttled_by", ""), s.get("paused_since_us", 0),
            s.get("paused_by", ""),
        )
        for s in health.get("sources", [])
    ]  # fmt: skip
    state = _state(row, now_us, patience_seconds)
    offset_us = int(health.get("clock_offset_us", 0))
    outbox = _ahead(OutboxHealth(**health.get("outbox", {})), state, row.last_seen_us, offset_us)
    own = [] if state == "revoked" else list(health.get("problems", []))
    return AgentView(
        row.agent, row.site, state, row.last_seen_us, row.host, row.platform, row.version, row.revision,
        row.desired_revision, row.config_state, row.config_reason, row.certificate_expires_us, offset_us, outbox,
        sources, _problems(row, state, health, refused, offset_us, now_us), own,
        [LimitHealth(**limit) for limit in health.get("limits", [])],
    )  # fmt: skip


def _state(row: rows.AgentRow, now_us: int, patience_seconds: float) -> str:
    if row.state == "revoked":
        return "revoked"
    if row.last_seen_us == 0:
        return "enrolled"
    quiet = (now_us - row.last_seen_us) / 1_000_000 > patience_seconds
    if row.connected:
        return "silent" if quiet else "connected"
    return "offline"


def _ahead(outbox: OutboxHealth, state: str, last_seen_us: int, offset_us: int) -> OutboxHealth:
    """The forecast by our clock. Of an agent that is not connected: what comes if it reads on as it last did."""
    if state == "connected":
        fills, drained = outbox.fills_at_us, outbox.drained_at_us
        return replace(
            outbox, fills_at_us=fills and fills - offset_us, drained_at_us=drained and drained - offset_us
        )  # fmt: skip
    room = max(0, outbox.limit_bytes - outbox.bytes)
    hours = room / outbox.in_bytes_per_hour if outbox.in_bytes_per_hour else FAR_HOURS
    fills = last_seen_us + int(hours * 3.6e9) if hours < FAR_HOURS and state != "revoked" else 0
    return replace(outbox, fills_at_us=fills, drained_at_us=0)


def _problems(
    row: rows.AgentRow, state: str, health: dict[str, Any], refused: Sequence[str], offset_us: int, now_us: int
) -> list[str]:
    """What a person should know, most urgent first; of an agent that was revoked, only why."""
    if state == "revoked":
        return list(refused)
    found: list[str] = []
    if row.config_state == "failed":
        found.append(f"refused revision {row.desired_revision}: {row.config_reason}")
    for source in health.get("sources", []):
        if source["state"] == "blocked":
            found.append(f"{source['source']}: {_blocked(source, now_us)}")
        elif source["error"]:
            hint = f" ({source['hint']})" if source["hint"] else ""
            found.append(f"{source['source']}: {source['error']}{hint}")
    found += health.get("problems", [])
    found += refused
    if abs(offset_us) > CLOCK_SECONDS * 1_000_000:
        found.append(f"its clock is {offset_us / 1_000_000:+.0f} s off ours: set the time service on {row.host}")
    left = (row.certificate_expires_us - now_us) / 1_000_000
    if row.certificate_expires_us and left < EXPIRY_SECONDS and state != "connected":
        found.append("its certificate has expired: enrol it anew" if left < 0 else "its certificate expires soon")
    return list(dict.fromkeys(found))


def _blocked(source: dict[str, Any], now_us: int) -> str:
    since = source.get("blocked_since_us", 0)
    hours = f" {max(0.0, (now_us - since) / 3.6e9):.1f} h ago" if since else ""
    return f"reading stopped{hours}, the outbox has no more room for its lane; the source keeps its data"
