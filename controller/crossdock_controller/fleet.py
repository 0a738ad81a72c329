"""Who may use the link, who is using it now, and what each agent was told. Identity comes from certificates alone."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import msgspec
from loguru import logger

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.tls import agent_of
from crossdock.v1 import link_pb2
from crossdock_controller.authority import Authority, Issued
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.store import agents, connection, revisions

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    agent: str
    site: str


@dataclass(slots=True)
class Session:
    """One live Control stream. *offers* wakes its writer; *offered* is the hash it was last offered."""

    caller: Caller
    instance: bytes
    context: grpc.aio.ServicerContext
    outgoing: asyncio.Queue[link_pb2.Directive] = field(default_factory=asyncio.Queue)
    offered: str = ""
    replaced: bool = False


async def cut(context: grpc.aio.ServicerContext, code: grpc.StatusCode, details: str) -> None:
    """End a stream that another task serves. `abort` raises in whoever calls it, also here, where the next stream is
    still to be cut."""
    with contextlib.suppress(grpc.aio.AbortError):
        await context.abort(code, details)


class Fleet:
    """The allow-list and the agents' rows in state.db, used from one thread of its own."""

    def __init__(self, state_file: Path, authority: Authority, certificate_life: dt.timedelta) -> None:
        self._authority = authority
        self._life = certificate_life
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet")
        self._db = connection.connect(state_file, check_same_thread=False)
        agents.disconnect_all(self._db)
        self._allowed = agents.active(self._db)
        self._runtime: Runtime | None = None
        self._revision = self._refused = 0
        self.sessions: dict[str, Session] = {}
        self._refused_twins: dict[str, tuple[int, str]] = {}  # agent: when, and the host of the second process
        self._streams: dict[str, set[grpc.aio.ServicerContext]] = {}

    def caller(self, context: grpc.aio.ServicerContext) -> Caller | None:
        """Who calls, or None when no agent of ours that may: names in messages are never asked."""
        auth = context.auth_context()
        for uri in (*auth.get("peer_spiffe_id", ()), *auth.get("x509_subject_alternative_name", ())):
            agent = agent_of(uri.decode("utf-8", "replace"))
            if agent is not None and agent in self._allowed:
                return Caller(agent, self._allowed[agent])
        return None

    def opened(self, agent: str, context: grpc.aio.ServicerContext) -> None:
        self._streams.setdefault(agent, set()).add(context)

    def closed(self, agent: str, context: grpc.aio.ServicerContext) -> None:
        self._streams.get(agent, set()).discard(context)

    async def refresh(self) -> None:
        """Read allow-list and head revision again: cut who was revoked, offer what is new."""
        allowed, head = await self.do(self._read)
        self._allowed = allowed
        for agent in [a for a in self._streams if a not in allowed]:
            for context in list(self._streams.pop(agent)):
                logger.bind(agent=agent).warning("agent revoked: its live stream is cut")
                await cut(context, grpc.StatusCode.PERMISSION_DENIED, f"agent {agent} is revoked")
        if head is not None and head[0] not in (self._revision, self._refused):
            await self._load(*head)
        for session in list(self.sessions.values()):
            await self.offer(session)

    async def _load(self, number: int, tree: dict[str, str]) -> None:
        """Take revision *number* up; one that this release cannot read leaves every site with what it has."""
        try:
            self._runtime = await asyncio.to_thread(Runtime.from_tree, tree, number)
        except ConfigError as error:
            self._refused = number
            logger.bind(revision=number).error("revision cannot be read and is not offered to any site: {}", error)
            return
        self._revision = number

    async def offer(self, session: Session) -> None:
        """Queue the site's part of the head revision, unless the agent has it or was offered it."""
        if self._runtime is None or session.caller.site not in self._runtime.sites:
            return
        config = self._runtime.site_config(session.caller.site)
        digest = siteconfig.digest(config)
        if digest == session.offered:
            return
        session.offered = digest
        signature = self._authority.sign(config)
        revision = self._revision
        offer = link_pb2.ConfigOffer(revision=revision, hash=digest, config=config, signature=signature)
        await session.outgoing.put(link_pb2.Directive(config=offer))
        await self.do(lambda db: agents.record_offered(db, session.caller.agent, revision))

    @property
    def bundle(self) -> bytes:
        """The CA certificates agents trust, PEM."""
        return self._authority.bundle

    def issue(self, agent: str, csr: bytes) -> Issued:
        """A certificate for *agent* from now on. Raises Refused."""
        return self._authority.issue_agent(csr, agent, self._life, dt.datetime.now(dt.UTC))

    def refused_twin(self, agent: str, host: str) -> None:
        """A second process used the identity of a connected agent: told with that agent's next heartbeats."""
        self._refused_twins[agent] = (time.time_ns() // 1000, host)

    async def heartbeat(self, caller: Caller, beat: link_pb2.Heartbeat) -> None:
        now_us = time.time_ns() // 1000
        twin = self._refused_twins.get(caller.agent)
        more = {"twin": {"at_us": twin[0], "host": twin[1]}} if twin else {}
        health = msgspec.json.encode(health_of(beat, now_us) | more).decode()
        await self.do(lambda db: agents.record_heartbeat(db, caller.agent, health, now_us))

    async def config_status(self, caller: Caller, status: link_pb2.ConfigStatus) -> None:
        """What the agent says of an offer: applying, applied or failed, with its reason."""
        reason = status.reason[:2000]
        await self.do(lambda db: agents.record_config(db, caller.agent, status.revision, status.state, reason))
        log = logger.bind(agent=caller.agent, revision=status.revision)
        if status.state == "failed":
            log.error("agent refused the revision and runs on with its last good one: {}", reason)
        else:
            log.info("revision {}", status.state)

    async def do(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run *call* with the connection, on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(self._db))

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        agents.disconnect_all(self._db)
        self._db.close()

    @staticmethod
    def _read(db: sqlite3.Connection) -> tuple[dict[str, str], tuple[int, dict[str, str]] | None]:
        return agents.active(db), revisions.head(db)


def health_of(beat: link_pb2.Heartbeat, now_us: int) -> dict[str, object]:
    """A heartbeat as the plain mapping that is stored and shown; `clock_offset_us` is the agent's clock minus ours."""
    return {
        "clock_offset_us": beat.clock_us - now_us,
        "outbox": {
            "batches": beat.outbox_batches, "records": beat.outbox_records, "bytes": beat.outbox_bytes,
            "limit_bytes": beat.outbox_limit_bytes, "disk_free_bytes": beat.disk_free_bytes,
            "oldest_us": beat.oldest_us, "fills_at_us": beat.fills_at_us, "drained_at_us": beat.drained_at_us,
            "in_bytes_per_hour": beat.in_bytes_per_hour if beat.HasField("in_bytes_per_hour") else None,
            "out_bytes_per_hour": beat.out_bytes_per_hour if beat.HasField("out_bytes_per_hour") else None,
        },
        "certificate_expires_us": beat.certificate_expires_us,
        "problems": list(beat.problems),
        "sources": [
            {
                "source": s.source, "state": s.state, "records": s.records, "batches": s.batches,
                "pending_records": s.pending_records, "last_read_us": s.last_read_us, "error": s.error, "hint": s.hint,
                "counters": dict(s.counters), "blocked_since_us": s.blocked_since_us,
            }
            for s in beat.sources
        ],
    }  # fmt: skip
