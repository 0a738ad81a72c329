"""Takes a rollout's steps, in the controller's gateway process. A step is one transaction: state, targets and audit.

Whatever moment it is killed at, the next controller finds the step taken or not, sees the agents again, and goes on.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from crossdock_controller.rollouts import model
from crossdock_controller.rollouts.decide import Step, decide
from crossdock_controller.rollouts.observe import observe
from crossdock_controller.rollouts.thresholds import DEFAULTS, Thresholds
from crossdock_controller.store import audit, connection, faults, rollouts, targets
from crossdock_controller.store.rollouts import RolloutRow
from crossdock_controller.store.shared import SharedConnection

ACTOR = "controller"
PATIENCE = 20  # a look is taken at most so that it uses a twentieth of the time
RETURN_SECONDS = 60.0  # after a start: agents come back by and by


def now_us() -> int:
    return time.time_ns() // 1000


class Conductor:
    """`step` is to be called about twice a second."""

    def __init__(
        self, state: Path, *, fence: str = "", limits: Thresholds = DEFAULTS, clock: Callable[[], int] = now_us
    ) -> None:
        self._path = state
        self._limits = limits
        self._clock = clock
        self._watching_us = clock()
        self._listening_us = self._watching_us + int(RETURN_SECONDS * 1e6)
        self._state = SharedConnection(state, "rollout", fence=fence)
        self._not_before = 0.0

    async def step(self) -> bool:
        """Look, and take the next step when it is time; whether one was taken. Raises what the store raises."""
        if time.monotonic() < self._not_before:
            return False
        with faults.told(self._path):
            row = await self._state.read(rollouts.live)
            if row is None:
                return False
            began = time.monotonic()
            rollout, at_us = model.of_row(row), self._clock()
            seen = await self._state.read(lambda db: observe(db, rollout, at_us, self._listening_us, self._watching_us))
            self._not_before = time.monotonic() + PATIENCE * (time.monotonic() - began)
            step = decide(rollout, seen, self._limits)
            if step is None or not await self._state.write(lambda db: take(db, row, step, ACTOR, at_us)):
                return False
        log = logger.bind(revision=rollout.revision)
        (log.error if step.event == "halted" else log.info)("rollout: {}", step.said)
        self._not_before = 0.0
        return True

    async def close(self) -> None:
        await asyncio.to_thread(self._state.stop)
        self._state.close()


def take(db: sqlite3.Connection, seen: RolloutRow, step: Step, actor: str, at_us: int) -> bool:
    """Store *step*, decided from *seen*; False when somebody took one meanwhile. In a transaction."""
    after = step.rollout
    stored = rollouts.change(
        db, seen, state=after.state, progress=model.text(after.progress), why=after.why,
        evidence=model.text(after.evidence), ended_us=after.ended_us,
    )  # fmt: skip
    if not stored:
        return False
    if step.clear:
        targets.clear(db)
    targets.add(db, step.offer, after.revision)
    audit.append(
        db, actor=actor, action=f"rollout.{step.event}", target=str(after.revision), details={"said": step.said},
        now_us=at_us,
    )  # fmt: skip
    return True


def take_now(path: Path, seen: RolloutRow, step: Step, actor: str, at_us: int) -> bool:
    """The same from a command, in a transaction of its own."""
    db = connection.connect(path)
    try:
        with connection.transaction(db):
            return take(db, seen, step, actor, at_us)
    finally:
        db.close()
