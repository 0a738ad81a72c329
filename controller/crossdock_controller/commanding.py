"""Takes commands to agents and their answers into state.db.

A command goes to its agent over a live Control stream, and again over each new one until it is answered: the agent runs
it once and answers from what it kept. Nothing waits here in memory, so a killed controller goes on where it was.
"""

from __future__ import annotations

import sqlite3
import time

from loguru import logger

from crossdock.sitecommands import OUTPUT_BYTES, PART_BYTES
from crossdock.v1 import link_pb2
from crossdock.wire import COMMANDS
from crossdock_controller.fleet import Caller, Fleet, Session
from crossdock_controller.store import audit, commands, faults
from crossdock_controller.store.commands import CommandRow

LOOK_SECONDS = 0.5
KEEP_DAYS = 7.0
KEEP_BYTES = 512 * 1024 * 1024  # of all outputs together
SILENT_SECONDS = 24 * 3600.0  # after its end, a command that was taken to the agent and never answered is given up
ERROR_CHARACTERS = 2000
PURGE_SECONDS = 600.0


class Commanding:
    """`look` is called every LOOK_SECONDS, `heard` with each answer; both on the gateway's event loop."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._purge_at = 0.0  # monotonic

    async def look(self) -> None:
        """Take what is due to agents that are connected; end what nobody will answer any more."""
        rows = await self._fleet.read(commands.unanswered)
        now_us = time.time_ns() // 1000
        for row in rows:
            session = self._fleet.sessions.get(row.agent)
            if row.state == "waiting" and row.expires_us <= now_us:
                await self._end(row, "expired", _too_late(row, session), now_us)
            elif row.expires_us + SILENT_SECONDS * 1e6 <= now_us:
                await self._end(
                    row,
                    "failed",
                    "no answer came: whether it ran there is not known; see the site's commands.log",
                    now_us,
                )
            elif session is not None and row.id not in session.commands:
                await self._send(row, session, now_us)
        if time.monotonic() >= self._purge_at:
            self._purge_at = time.monotonic() + PURGE_SECONDS
            before_us = now_us - int(KEEP_DAYS * 86_400e6)
            await self._fleet.do(lambda db: commands.purge(db, before_us, KEEP_BYTES))

    async def _send(self, row: CommandRow, session: Session, now_us: int) -> None:
        if COMMANDS not in session.capabilities:
            said = (
                f"agent {row.agent} (crossdock {session.version or 'unknown'}) is of a release that takes no commands: "
                "upgrade it"
            )
            await self._end(row, "failed", said, now_us)
            return
        await self._fleet.do(lambda db: commands.sent(db, row.id, now_us))
        session.commands.add(row.id)
        order = link_pb2.Command(
            id=row.id, name=row.name, arguments=row.arguments, expires_us=row.expires_us, by=row.by
        )  # fmt: skip
        session.outgoing.put_nowait(link_pb2.Directive(command=order))
        logger.bind(agent=row.agent, command=row.name, id=row.id, by=row.by).info("command sent")

    async def heard(self, session: Session, result: link_pb2.CommandResult) -> None:
        """A part of an answer, or its last. While the store takes nothing, the agent is asked again later."""
        caller, now_us = session.caller, time.time_ns() // 1000
        if result.id not in session.commands:  # of another agent, or answered: not worth a look at the store
            return
        try:
            if await self._fleet.do(lambda db: _take(db, caller, result, now_us)):
                session.commands.discard(result.id)
        except faults.StoreUnavailable as error:
            session.commands.discard(result.id)
            logger.bind(agent=caller.agent, id=result.id[:40]).warning("an answer is asked for again: {}", error)

    async def _end(self, row: CommandRow, state: str, said: str, now_us: int) -> None:
        await self._fleet.do(lambda db: _ended(db, row, state, said, now_us, "controller"))


def _too_late(row: CommandRow, session: Session | None) -> str:
    where = "was not connected" if session is None else "connected too late"
    return f"agent {row.agent} {where} before it expired; nothing was done (--for lets it wait longer)"


def _take(db: sqlite3.Connection, caller: Caller, result: link_pb2.CommandResult, now_us: int) -> bool:
    """True once it has its end."""
    row = commands.get(db, result.id)
    if row is None or row.agent != caller.agent or row.state not in commands.UNANSWERED:
        return True
    if result.started:
        commands.started(db, row.id, caller.agent, now_us)
        return False
    by = f"agent:{caller.agent}"
    if result.output or result.part:
        size = commands.add_part(db, row.id, result.part, result.output)
        if size < 0 or size > OUTPUT_BYTES or len(result.output) > PART_BYTES:
            commands.drop_output(db, row.id)
            said = "came incomplete" if size < 0 else f"is larger than {OUTPUT_BYTES >> 20} MiB, or a part is too large"
            _ended(db, row, "failed", f"its answer {said}, and was dropped", now_us, by)
            return True
    if not result.more:
        _ended(db, row, _state(result), result.error[:ERROR_CHARACTERS], now_us, by)
    return not result.more


def _state(result: link_pb2.CommandResult) -> str:
    if result.refused:
        return "refused"
    if result.expired:
        return "expired"
    return "done" if result.ok else "failed"


def _ended(db: sqlite3.Connection, row: CommandRow, state: str, said: str, now_us: int, actor: str) -> None:
    """Record the end and who says so, in the caller's transaction."""
    if not commands.ended(db, row.id, state, said, now_us):
        return
    ended = commands.get(db, row.id)
    details = {"agent": row.agent, "name": row.name, "state": state, "bytes": ended.output_bytes if ended else 0}
    if said:
        details["error"] = said
    action = "command.end" if actor == "controller" else "command.answer"
    audit.append(db, actor=actor, action=action, target=row.id, details=details, now_us=now_us)
    log = logger.bind(agent=row.agent, command=row.name, id=row.id, state=state)
    log.info("command answered") if state == "done" else log.warning("command not done: {}", said)
