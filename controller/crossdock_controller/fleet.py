"""Who may use the link, who is using it now, and what each agent was told. Identity comes from certificates alone."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import msgspec
from loguru import logger

from crossdock.complaints import Complaints
from crossdock.errors import CrossdockError
from crossdock.tls import agent_of
from crossdock.v1 import link_pb2
from crossdock.wire import WRITE_BACK
from crossdock_controller.authority import Authority, Issued
from crossdock_controller.effective import Effective
from crossdock_controller.offers import Offers
from crossdock_controller.refusing import Refusals
from crossdock_controller.standing import Standing
from crossdock_controller.store import (
    agents,
    connection,
    facts,
    faults,
    revisions,
    rollouts,
    sightings,
    strangers,
    targets,
)
from crossdock_controller.store.holder import HolderLost
from crossdock_controller.store.shared import SharedConnection
from crossdock_controller.store.targets import Targets

_T = TypeVar("_T")

STRANGER_SECONDS = 60.0  # between two notes of one that is refused


CUT_SECONDS = 1.0  # so long the end of a stream is waited for; then it comes when its peer reads, or is gone
_cutting: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish before it is done


@dataclass(frozen=True, slots=True)
class Caller:
    agent: str
    site: str


@dataclass(slots=True)
class Session:
    """One live Control stream. *offers* wakes its writer; *offered* is the hash it was last offered; *commands* are the
    ids of those taken to the agent over it."""

    caller: Caller
    instance: bytes
    context: grpc.aio.ServicerContext
    outgoing: asyncio.Queue[link_pb2.Directive] = field(default_factory=asyncio.Queue)
    offered: str = ""
    desired: int = 0  # the revision it was last told of, or found to run
    replaced: bool = False
    standing: Standing = field(default_factory=lambda: Standing(""))
    version: str = ""
    capabilities: frozenset[str] = frozenset()
    commands: set[str] = field(default_factory=set)


async def cut(context: grpc.aio.ServicerContext, code: grpc.StatusCode, details: str) -> None:
    """End a stream that another task serves. The end waits behind what its peer does not read; we do not wait for
    that: a thief who reads nothing would keep everybody else from being cut."""
    task = asyncio.create_task(_abort(context, code, details))
    _cutting.add(task)
    task.add_done_callback(_cutting.discard)
    await asyncio.wait({task}, timeout=CUT_SECONDS)


async def _abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, details: str) -> None:
    """`abort` raises in whoever calls it, also here, where the next stream is still to be cut; and otherwise for a
    stream that is gone already, or was cut before."""
    with contextlib.suppress(grpc.aio.AbortError):
        try:
            await context.abort(code, details)
        except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
            logger.debug("a stream that is to be cut has ended: {}", error)


class Fleet:
    """The allow-list and the agents' rows in state.db. Heartbeats are stored together, at each `refresh`.

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
        self._state = SharedConnection(state_file, "fleet", fence=fence)
        with connection.transaction(self._state.db):
            agents.disconnect_all(self._state.db)
        self._allowed = agents.active(self._state.db)
        self.store = facts.store_id(self._state.db)
        self._strangers: dict[str, float] = {}  # when each was last noted
        self._offers = Offers(lambda config, signer: authority.sign(config, (signer,)))
        self._effective = Effective()
        self._beats: dict[str, tuple[link_pb2.Heartbeat, int]] = {}  # by agent: the last, and when it came
        self.sessions: dict[str, Session] = {}
        self.refusals = Refusals(self.note)
        self._streams: dict[str, set[grpc.aio.ServicerContext]] = {}

    @property
    def size(self) -> int:
        """How many agents may use the link."""
        return len(self._allowed)

    def caller(self, context: grpc.aio.ServicerContext) -> Caller | None:
        """Who calls, or None when no agent of ours that may: names in messages are never asked."""
        for agent in _names(context):
            if agent in self._allowed:
                return Caller(agent, self._allowed[agent])
        return None

    async def note_stranger(self, context: grpc.aio.ServicerContext) -> None:
        """Someone with a certificate of ours is on no list: for a person to see, and to let in (`agents adopt`)."""
        now, agent = time.monotonic(), next(iter(_names(context)), None)
        if agent is None or now - self._strangers.get(agent, float("-inf")) < STRANGER_SECONDS:
            return
        self._strangers[agent] = now
        peer, now_us = str(context.peer())[:255], time.time_ns() // 1000
        await self.note(lambda db: strangers.note(db, agent, peer, now_us))

    async def note_misfit(self, caller: Caller, version: str, reason: str) -> None:
        """An agent whose protocol is not spoken here, for a person to see: its next heartbeat takes the note away."""
        now_us = time.time_ns() // 1000
        health = msgspec.json.encode({"problems": [reason]}).decode()
        await self.do(lambda db: agents.record_misfit(db, caller.agent, version, health, now_us))

    def opened(self, agent: str, context: grpc.aio.ServicerContext) -> None:
        self._streams.setdefault(agent, set()).add(context)

    def allows(self, agent: str) -> bool:
        """Whether it may use the link, as of the last `refresh`."""
        return agent in self._allowed

    def open_streams(self, agent: str) -> int:
        """How many of its streams are open."""
        return len(self._streams.get(agent, ()))

    def closed(self, agent: str, context: grpc.aio.ServicerContext) -> None:
        streams = self._streams.get(agent, set())
        streams.discard(context)
        if not streams:
            self._streams.pop(agent, None)

    def streams(self) -> dict[str, list[grpc.aio.ServicerContext]]:
        """The live streams of each agent."""
        return {agent: list(contexts) for agent, contexts in self._streams.items()}

    async def admit(self) -> None:
        """Read the allow-list again: somebody was enrolled."""
        self._allowed = await self.read(agents.active)

    async def refresh(self) -> None:
        """Read allow-list and targets again: cut who was revoked, before anything else; store the heartbeats that came,
        and what was refused; offer what is new."""
        self._allowed, found = await self.read(lambda db: (agents.active(db), targets.read(db)))
        revoked = [(a, context) for a in self._streams if a not in self._allowed for context in self._streams[a]]
        for agent, context in revoked:
            logger.bind(agent=agent).warning("agent revoked: its live stream is cut")
            self.closed(agent, context)
        ends = [cut(c, grpc.StatusCode.PERMISSION_DENIED, f"agent {agent} is revoked") for agent, c in revoked]
        await asyncio.gather(*ends)
        await self._store_heartbeats()
        await self.refusals.flush()
        if found != self._offers.targets:
            await self._follow(found)
            await asyncio.gather(*(self.offer(session) for session in list(self.sessions.values())))

    async def _follow(self, found: Targets) -> None:
        """Take up what each site is to run."""
        unread = self._offers.unread(found)
        trees, damaged = await self.read(lambda db: revisions.sound(db, unread))
        self._offers.refuse(damaged)
        hold = await self.read(rollouts.hold_seconds) if found.rolling else 0.0
        await asyncio.to_thread(self._offers.take, found, trees, hold)

    async def offer(self, session: Session) -> None:
        """Queue the site's part of the revision it is to run, unless the agent has it or was offered it."""
        signer = self._authority.signer_for(session.standing.authorities)
        writers = WRITE_BACK in session.capabilities
        offer, agent = self._offers.of(session.caller.site, signer, writers=writers), session.caller.agent
        now_us = time.time_ns() // 1000
        if offer is None or (offer.hash == session.offered and offer.revision == session.desired):
            return
        settled = offer.hash == session.offered  # it came back and runs it already
        session.offered, session.desired = offer.hash, offer.revision

        def store(db: sqlite3.Connection) -> None:
            (agents.record_settled if settled else agents.record_offered)(db, agent, offer.revision)
            sightings.offered(db, agent, offer.revision, offer.hash, now_us)
            if settled:
                sightings.answered(db, agent, offer.revision, "applied", "", (), now_us)

        if not settled:
            session.outgoing.put_nowait(link_pb2.Directive(config=offer))
        await self.note(store)

    @property
    def bundle(self) -> bytes:
        """The CA certificates agents trust, PEM."""
        return self._authority.bundle

    @property
    def authority(self) -> Authority:
        return self._authority

    def issue(self, agent: str, csr: bytes) -> Issued:
        """A certificate for *agent* from now on. Raises Refused."""
        return self._authority.issue_agent(csr, agent, self._life, dt.datetime.now(dt.UTC))

    def heartbeat(self, caller: Caller, beat: link_pb2.Heartbeat) -> None:
        """Keep it until the next `refresh`: a fleet's heartbeats are one transaction, not one each."""
        self._beats[caller.agent] = (beat, time.time_ns() // 1000)

    async def _store_heartbeats(self) -> None:
        beats, self._beats = self._beats, {}
        rows = [(agent, msgspec.json.encode(health_of(beat, at)).decode(), at) for agent, (beat, at) in beats.items()]

        changes = [change for agent, beat in beats.items() if (change := self._effective.change(agent, *beat))]

        def store(db: sqlite3.Connection) -> None:
            for agent, health, at in rows:
                agents.record_heartbeat(db, agent, health, at)
            for change in changes:
                change(db)

        if rows and not await self.note(store):
            self._effective.forget(beats)

    async def config_status(self, caller: Caller, status: link_pb2.ConfigStatus) -> None:
        """What the agent says of an offer: applying, applied or failed, with its reason."""
        reason, now_us = status.reason[:2000], time.time_ns() // 1000
        self._effective.answered(caller.agent, now_us)

        def store(db: sqlite3.Connection) -> None:
            agents.record_config(db, caller.agent, status.revision, status.state, reason)
            sightings.answered(db, caller.agent, status.revision, status.state, reason, status.log, now_us)
            if status.state == "applied":
                sightings.runs(db, caller.agent, status.revision, status.hash, now_us)

        await self.note(store)
        log = logger.bind(agent=caller.agent, revision=status.revision)
        if status.state == "failed":
            log.error("agent refused the revision and runs on with its last good one: {}", reason)
        else:
            log.info("revision {}", status.state)

    async def do(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run *call*, which may write, on the connection's thread; its result is on the disk (see SharedConnection).

        Raises StoreUnavailable, StoreDamaged, HolderLost.
        """
        try:
            with faults.told(self._path):
                return await self._state.write(call)
        except (faults.StoreDamaged, HolderLost) as error:
            self._fatal(error)
            raise

    async def read(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        """*call*, which only reads, on the connection's thread. Raises StoreUnavailable, StoreDamaged."""
        with faults.told(self._path):
            return await self._state.read(call)

    async def note(self, call: Callable[[sqlite3.Connection], object]) -> bool:
        """Write what is only shown to people: while the store cannot be written, the link goes on without it. Whether
        it was written."""
        try:
            await self.do(call)
        except faults.StoreUnavailable as error:
            self._complaints.make("fleet", f"what agents report of themselves is not recorded now: {error}")
            return False
        self._complaints.over("fleet", "what agents report is recorded again")
        return True

    def close(self) -> None:
        self._state.stop()
        try:
            with connection.transaction(self._state.db):
                agents.disconnect_all(self._state.db)
        except (CrossdockError, sqlite3.Error) as error:
            logger.warning("agents could not be recorded as disconnected; the next start does it: {}", error)
        self._state.close()


def _names(context: grpc.aio.ServicerContext) -> list[str]:
    """The agent that the caller's certificate names, as a list of one; empty when it is not the one name it has.

    Those we issue carry one URI and nothing else. What carries more, or a name of another kind, was not made here.
    """
    auth = context.auth_context()
    names, uris = auth.get("x509_subject_alternative_name", ()), auth.get("peer_uri", ())
    if len(names) != 1 or list(names) != list(uris):
        return []
    agent = agent_of(names[0].decode("utf-8", "replace"))
    return [agent] if agent else []


def health_of(beat: link_pb2.Heartbeat, now_us: int) -> dict[str, object]:
    """A heartbeat as the plain mapping that is stored and shown; `clock_offset_us` is the agent's clock minus ours."""
    return {
        "at_us": now_us,
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
                "counters": dict(s.counters), "blocked_since_us": s.blocked_since_us, "throttled_by": s.throttled_by,
                "paused_since_us": s.paused_since_us, "paused_by": s.paused_by,
            }
            for s in beat.sources
        ],
        "limits": [
            {
                "resource": limit.resource, "limit": limit.limit, "used": limit.used, "throttling": limit.throttling,
                "waiting_bytes": limit.waiting_bytes, "throttled_seconds": limit.throttled_seconds,
            }
            for limit in beat.limits
        ],
    }  # fmt: skip
