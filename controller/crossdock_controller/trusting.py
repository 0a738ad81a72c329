"""A running controller takes up each step of replacing a certificate authority, and leads its agents along.

Nobody is cut for it but whoever shows a certificate of a CA that was retired.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable

import grpc
from loguru import logger

from crossdock.v1.link_pb2 import Heartbeat
from crossdock_controller import ledger
from crossdock_controller.authority import Authority, short
from crossdock_controller.fleet import Fleet, Session, cut
from crossdock_controller.store import certificates, facts

PRUNE_SECONDS = 600.0
LOOK_SECONDS = 10.0  # how often each session is looked at, beside every change
LEFTOVER_US = 90 * 86_400_000_000  # the ledger keeps certificates this much longer than they prove anything
RETIRED = "the authority of this certificate was retired: enrol this agent anew ('crossdock token create')"


class Trusting:
    """*server_ends*: when the server's own certificate ends, microseconds UTC."""

    def __init__(self, fleet: Fleet, authority: Authority, server_ends: Callable[[], int], grace_us: int) -> None:
        self._fleet = fleet
        self._authority = authority
        self._server_ends = server_ends
        self._grace_us = grace_us
        self._noted: dict[str, str] = {}
        self._looked = self._pruned = float("-inf")

    async def refresh(self) -> None:
        """Take up what a command changed, cut who may not go on, and tell everybody else. Raises Corrupt."""
        changed = await asyncio.to_thread(self._authority.refresh)
        if changed:
            listed = ", ".join(f"{short(s.fingerprint)} {s.word}" for s in self._authority.states)
            logger.info("certificate authorities changed: {}", listed)
            await self._cut_retired()
        now = time.monotonic()
        if changed or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            for session in list(self._fleet.sessions.values()):
                tell(session, self._authority)
        await self._note()
        if now - self._pruned >= PRUNE_SECONDS:
            self._pruned = now
            ended_us = time.time_ns() // 1000 - self._grace_us - LEFTOVER_US
            await self._fleet.note(lambda db: certificates.prune(db, ended_us))

    async def _cut_retired(self) -> None:
        """Also the stream of an agent that has renewed since it opened it: what opened it proves nothing any more. That
        one connects again."""
        for agent, contexts in self._fleet.streams().items():
            shown = {context: ledger.shown(context, agent, self._authority) for context in contexts}
            good = any(certificate is not None and certificate.authority for certificate in shown.values())
            for context, certificate in shown.items():
                if certificate is None or certificate.authority:
                    continue
                logger.bind(agent=agent).warning("its certificate's authority was retired: its live stream is cut")
                if good:
                    await cut(context, grpc.StatusCode.UNAVAILABLE, "connect again, with the newest certificate")
                else:
                    await cut(context, grpc.StatusCode.UNAUTHENTICATED, RETIRED)

    async def _note(self) -> None:
        """For the commands, which are processes of their own."""
        ends = self._authority.ends()
        first = min(ends[s.fingerprint] for s in self._authority.states if s.trusted)
        found = {
            facts.SERVER_ENDS: str(self._server_ends()),
            facts.GRACE: str(self._grace_us),
            facts.AUTHORITIES: self._authority.version,
            facts.AUTHORITY_ENDS: str(int(first.timestamp() * 1_000_000)),
        }
        if found == self._noted:
            return

        def note(db: sqlite3.Connection) -> None:
            for name, value in found.items():
                facts.put(db, name, value.encode())
            self._noted = found

        await self._fleet.note(note)


def tell(session: Session, authority: Authority) -> None:
    """Queue what is due to *session*."""
    directive = session.standing.due(authority, time.monotonic())
    if directive is not None:
        session.outgoing.put_nowait(directive)
        renew = " and to renew its certificate" if directive.trust.renew else ""
        logger.bind(agent=session.caller.agent).info("agent is told which authorities to trust{}", renew)


async def heard(session: Session, beat: Heartbeat, fleet: Fleet) -> None:
    """Take up what a heartbeat says of the authorities it trusts."""
    standing = session.standing
    if standing.heard(beat):
        now_us = time.time_ns() // 1000
        await fleet.note(lambda db: standing.record(db, now_us))
        log = logger.bind(agent=session.caller.agent)
        log.info("agent trusts {}", ", ".join(sorted(map(short, standing.authorities))))
