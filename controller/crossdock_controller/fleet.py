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
from crossdock.complaints import Complaints
from crossdock.errors import ConfigError, CrossdockError
from crossdock.tls import agent_of
from crossdock.v1 import link_pb2
from crossdock_controller.authority import Authority, Issued
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.store import agents, connection, faults, revisions
from crossdock_controller.store.holder import HolderLost

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
    """The allow-list and the agents' rows in state.db, used from one thread of its own.

    *fence* is the id of the holder in whose name it writes; *fatal* is told why nothing may be written any more.
    """

    def __init__(
        self,
        state_file: Path,
        authority: Authority,
        certificate_life: dt.timedelta,
        *,
        fence: str = "",
        fatal: Callable[[CrossdockError], None] = lambda _error: None,
    ) -> None:
        self._path = state_file
        self._fatal = fatal
        self._complaints = Complaints()
        self._authority = authority
        self._life = certificate_life
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet")
        self._db = connection.connect(state_file, check_same_thread=False, fence=fence)
        with connection.transaction(self._db):
            agents.disconnect_all(self._db)
        self._allowed = agents.active(self._db)
        self._runtime: Runtime | None = None
        self._revision = self._refused = 0
        self.sessions: dict[str, Session] = {}
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
        await self.note(lambda db: agents.record_offered(db, session.caller.agent, revision))

    @property
    def bundle(self) -> bytes:
        """The CA certificates agents trust, PEM."""
        return self._authority.bundle

    def issue(self, agent: str, csr: bytes) -> Issued:
        """A certificate for *agent* from now on. Raises Refused."""
        return self._authority.issue_agent(csr, agent, self._life, dt.datetime.now(dt.UTC))

    async def heartbeat(self, caller: Caller, beat: link_pb2.Heartbeat) -> None:
        now_us = time.time_ns() // 1000
        health = msgspec.json.encode(health_of(beat, now_us)).decode()
        await self.note(lambda db: agents.record_heartbeat(db, caller.agent, health, now_us))

    async def config_status(self, caller: Caller, status: link_pb2.ConfigStatus) -> None:
        """What the agent says of an offer: applying, applied or failed, with its reason."""
        reason = status.reason[:2000]
        await self.note(lambda db: agents.record_config(db, caller.agent, status.revision, status.state, reason))
        log = logger.bind(agent=caller.agent, revision=status.revision)
        if status.state == "failed":
            log.error("agent refused the revision and runs on with its last good one: {}", reason)
        else:
            log.info("revision {}", status.state)

    async def do(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run *call*, which reads, with the connection, on its thread. Raises StoreUnavailable, StoreDamaged."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._told(call))

    async def write(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run *call* in a write transaction of its own. Raises StoreUnavailable, StoreDamaged, HolderLost."""

        def written(db: sqlite3.Connection) -> _T:
            with connection.transaction(db):
                return call(db)

        return await self.do(written)

    async def note(self, call: Callable[[sqlite3.Connection], object]) -> None:
        """Write what is only shown to people: while the store cannot be written, the link goes on without it."""
        try:
            await self.write(call)
        except faults.StoreUnavailable as error:
            self._complaints.make("fleet", f"what agents report of themselves is not recorded now: {error}")
        else:
            self._complaints.over("fleet", "what agents report is recorded again")

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        try:
            with connection.transaction(self._db):
                agents.disconnect_all(self._db)
        except (CrossdockError, sqlite3.Error) as error:
            logger.warning("agents could not be recorded as disconnected; the next start does it: {}", error)
        self._db.close()

    def _told(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            with faults.told(self._path):
                return call(self._db)
        except (faults.StoreDamaged, HolderLost) as error:
            self._fatal(error)
            raise

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
            "oldest_us": beat.oldest_us,
        },
        "certificate_expires_us": beat.certificate_expires_us,
        "problems": list(beat.problems),
        "sources": [
            {
                "source": s.source, "state": s.state, "records": s.records, "batches": s.batches,
                "pending_records": s.pending_records, "last_read_us": s.last_read_us, "error": s.error, "hint": s.hint,
                "counters": dict(s.counters),
            }
            for s in beat.sources
        ],
    }  # fmt: skip
