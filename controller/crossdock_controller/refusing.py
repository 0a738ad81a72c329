"""Refusals on their way to the store: counted here at once, written together at each refresh of the fleet.

However much is refused, memory, rows and audit log stay small: one line for each (kind, who, from where), and the audit
log tells of it when it is new and then once an hour, at most so many in an hour together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable

from crossdock_controller.store import audit, refusals

WAITING = 1000  # different ones between two refreshes; the rest is counted under one address
SAY_AGAIN_SECONDS = 3600
AUDITED_PER_HOUR = 60
KEEP_DAYS = 30
_Note = Callable[[Callable[[sqlite3.Connection], object]], Awaitable[object]]


class Refusals:
    """Use from one event loop. *note* writes to the store (Fleet.note)."""

    def __init__(self, note: _Note) -> None:
        self._note = note
        self._waiting: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._hour, self._audited = 0, 0
        self._swept_us = 0

    def add(self, kind: str, subject: str, address: str, detail: str = "") -> None:
        """One attempt was refused: by *subject* (an agent, a token's id, or ""), from *address*."""
        key = (kind, subject[:255], address[:255])
        if key not in self._waiting and len(self._waiting) >= WAITING:
            key, detail = (kind, "", refusals.OTHERS), ""
        count, _ = self._waiting.get(key, (0, ""))
        self._waiting[key] = (count + 1, detail[:500])

    async def flush(self) -> None:
        """Write what came since the last one."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        now_us = time.time_ns() // 1000
        await self._note(lambda db: self._store(db, waiting, now_us))

    def _store(self, db: sqlite3.Connection, waiting: dict[tuple[str, str, str], tuple[int, str]], now_us: int) -> None:
        if now_us - self._swept_us > SAY_AGAIN_SECONDS * 1_000_000:
            self._swept_us = now_us
            refusals.forget_before(db, now_us - KEEP_DAYS * 86_400_000_000)
        for (kind, subject, address), (count, detail) in waiting.items():
            row = refusals.add(db, kind, subject, address, count, detail, now_us)
            if now_us - row.said_us >= SAY_AGAIN_SECONDS * 1_000_000 and self._may_say(now_us):
                told = {"address": row.address, "attempts": row.count, "since_us": row.first_us, "why": row.detail}
                audit.append(
                    db, actor="controller", action=f"refused.{kind}", target=row.subject, details=told, now_us=now_us
                )
                refusals.said(db, row, now_us)

    def _may_say(self, now_us: int) -> bool:
        hour = now_us // 3_600_000_000
        if hour != self._hour:
            self._hour, self._audited = hour, 0
        self._audited += 1
        return self._audited <= AUDITED_PER_HOUR
