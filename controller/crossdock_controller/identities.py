"""Whether who greets as an agent is that agent: the machine that has the identity, with the newest certificate.

A clone shares the key with its original, so it is told by what it does not share: the machine, the time at which it
runs, or the certificates that were issued since it was copied. What is refused is counted (`store.refusals`) and shown
until it ends; which of the two is the right one, only a person can say.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import OrderedDict
from typing import Any

import grpc
from loguru import logger

from crossdock.machine import is_machine_digest
from crossdock.v1 import link_pb2
from crossdock_controller import ledger
from crossdock_controller.fleet import Caller, Fleet, cut
from crossdock_controller.reports import one_line
from crossdock_controller.store import audit, certificates, enrolments, machines, revocations
from crossdock_controller.store.certificates import Certificate
from crossdock_controller.throttle import address_of

SETTLE_SECONDS = 60  # an agent's own streams may still open with the certificate that it has just replaced
OVERLAP_SECONDS = 10.0  # ... and those that are open may end by themselves
BAR_SECONDS = 120.0  # who is refused tries again sooner than that
BARRED = 1000  # of all agents together; the oldest is forgotten first

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


class Identities:
    """Asked at each call of the link. Reads only: what a greeting changes is written by `greeted`.

    A data stream says nothing of its machine. So where a greeting is refused, its address may not send either, unless
    the agent itself is connected from there.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._barred: OrderedDict[tuple[str, str], float] = OrderedDict()  # (agent, address): until, monotonic
        self._cuts: set[asyncio.Task[None]] = set()

    async def outdated(self, caller: Caller, shown: Certificate | None, context: _Context) -> str:
        """Why the certificate shown is not taken: a newer one of this agent was seen in use, or it is of before the
        agent was revoked. Empty when it is.

        One that was issued and never seen in use does not count: the agent may have crashed before it was stored.
        Raises StoreUnavailable.
        """
        if shown is None:
            return ""
        newer, revoked = await self._fleet.read(lambda db: (_newer(db, shown), revocations.voiding(db, shown)))
        if revoked is not None:
            self._outdated(caller.agent, shown, context, void(caller.agent))
            return void(caller.agent)
        if newer is None:
            return ""
        reason = (
            f"agent {caller.agent} already uses a newer certificate than this one: it was stolen or cloned, or this"
            f" machine was restored from an older copy; if it is the right one, enrol it anew: crossdock token create"
            f" --site {caller.site} --agent {caller.agent}"
        )
        if time.time_ns() // 1000 - newer.first_used_us > SETTLE_SECONDS * 1_000_000:
            self._outdated(caller.agent, shown, context, reason)
        return reason

    def _outdated(self, agent: str, shown: Certificate, context: _Context, reason: str) -> None:
        address = address_of(str(context.peer()))
        logger.bind(agent=agent, peer=address, serial=shown.serial).error("{}", reason)
        self._fleet.refusals.add("outdated", agent, address, f"certificate {shown.serial}")

    async def elsewhere(self, caller: Caller, hello: link_pb2.Hello, context: _Context) -> str:
        """Why this machine may not have the identity: another one has it. Empty when it may, and for an agent that says
        nothing of its machine (an older release). Raises StoreUnavailable."""
        if not is_machine_digest(hello.machine):
            return ""
        now_us = time.time_ns() // 1000
        bound = await self._fleet.read(lambda db: machines.barring(db, caller.agent, hello.machine, now_us))
        if bound is None:
            return ""
        reason = elsewhere(bound)
        logger.bind(agent=caller.agent, host=one_line(hello.host, 255), peer=str(context.peer())).error("{}", reason)
        self._refuse("machine", caller, hello, context)
        return reason

    def twin(self, caller: Caller, hello: link_pb2.Hello, context: _Context) -> None:
        """A second process used the identity of a connected agent and was refused."""
        self._refuse("twin", caller, hello, context)

    def barred(self, caller: Caller, context: _Context) -> str:
        """Why this address may not send as *caller*: a greeting from there was just refused. Empty when it may."""
        key = (caller.agent, address_of(str(context.peer())))
        if self._barred.get(key, 0.0) <= time.monotonic() or self._at_home(*key):
            return ""
        return f"agent {caller.agent} may not send from this address: its greeting from here was refused"

    def welcomed(self, caller: Caller, shown: Certificate | None, context: _Context) -> None:
        """*caller* was let in. What is still open under an older certificate than the one *shown* ends soon: its own
        streams change over by themselves, and a thief's do not."""
        self._barred.pop((caller.agent, address_of(str(context.peer()))), None)
        if shown is None:
            return
        for other in self._fleet.streams().get(caller.agent, ()):
            theirs = ledger.shown(other, caller.agent, self._fleet.authority)
            if theirs is not None and theirs.serial != shown.serial:
                reason = f"agent {caller.agent} uses a newer certificate now"
                self._later(OVERLAP_SECONDS, caller.agent, other, reason)

    def _refuse(self, kind: str, caller: Caller, hello: link_pb2.Hello, context: _Context) -> None:
        address = address_of(str(context.peer()))
        self._fleet.refusals.add(kind, caller.agent, address, one_line(hello.host, 255))
        if self._at_home(caller.agent, address):
            return
        self._barred[caller.agent, address] = time.monotonic() + BAR_SECONDS
        while len(self._barred) > BARRED:
            self._barred.popitem(last=False)
        for other in self._fleet.streams().get(caller.agent, ()):
            if other is not context and address_of(str(other.peer())) == address:
                self._later(0.0, caller.agent, other, f"another machine or process uses the identity of {caller.agent}")

    def _at_home(self, agent: str, address: str) -> bool:
        """Whether *agent* is connected from *address* now."""
        live = self._fleet.sessions.get(agent)
        return live is not None and address_of(str(live.context.peer())) == address

    def _later(self, seconds: float, agent: str, context: _Context, reason: str) -> None:
        async def end() -> None:
            await asyncio.sleep(seconds)
            if context in self._fleet.streams().get(agent, ()):  # it did not end by itself
                logger.bind(agent=agent, peer=str(context.peer())).warning("a live stream is cut: {}", reason)
                await cut(context, grpc.StatusCode.PERMISSION_DENIED, reason)

        task = asyncio.create_task(end())
        self._cuts.add(task)
        task.add_done_callback(self._cuts.discard)


def greeted(db: sqlite3.Connection, agent: str, hello: link_pb2.Hello, shown: Certificate | None, now_us: int) -> None:
    """*agent* was let in: its machine has the identity, and its token is worth nothing any more."""
    if is_machine_digest(hello.machine):
        _settle(db, agent, hello.machine, one_line(hello.host, 255), now_us)
    if shown is not None:
        enrolments.seen(db, agent, shown.key_sha256)


def void(agent: str) -> str:
    """Why a certificate of before a revocation lets nobody in, also when its agent enrolled anew."""
    return f"this certificate was made before agent {agent} was revoked: only the one it enrolled for since is good"


def elsewhere(bound: machines.Machine) -> str:
    """Why a machine may not have the identity that is *bound* to another one."""
    where = f" (host {bound.host})" if bound.host else ""
    return (
        f"the identity of agent {bound.agent} belongs to another machine{where}: is this one a copy? enrol it"
        f" under a name of its own; if it takes the other's place: crossdock agents move {bound.agent}"
    )


def _settle(db: sqlite3.Connection, agent: str, machine: str, host: str, now_us: int) -> None:
    bound = machines.get(db, agent)
    if bound is not None and bound.machine == machine:
        return
    machines.bind(db, agent, machine, host, now_us)
    if bound is not None:
        audit.append(
            db, actor=f"agent:{agent}", action="agents.moved", target=agent, now_us=now_us,
            details={"from_host": bound.host, "to_host": host},
        )  # fmt: skip


def _newer(db: sqlite3.Connection, shown: Certificate) -> Certificate | None:
    return certificates.newer_in_use(db, certificates.get(db, shown.serial) or shown)
