"""Which configuration each agent runs, as its heartbeats say: told once when it changes, and never by an older word."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from crossdock.v1 import link_pb2
from crossdock_controller.store import agents, sightings


class Effective:
    """Agents of an older release do not say; they are known by their hello and their answers."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}
        self._answered_us: dict[str, int] = {}

    def answered(self, agent: str, now_us: int) -> None:
        """It said what it runs in another way: a heartbeat from before that is out of date."""
        self._answered_us[agent] = now_us
        self._known.pop(agent, None)

    def forget(self, names: Iterable[str]) -> None:
        """What was to be stored of them was not: their next heartbeat is news again."""
        for agent in names:
            self._known.pop(agent, None)

    def change(self, agent: str, beat: link_pb2.Heartbeat, at_us: int) -> Callable[[sqlite3.Connection], None] | None:
        """What to store for *beat*, which came at *at_us*; None when it says nothing new."""
        says = (beat.revision, beat.config_hash)
        if not beat.config_hash or self._known.get(agent) == says or at_us < self._answered_us.get(agent, 0):
            return None

        def store(db: sqlite3.Connection) -> None:
            self._known[agent] = says
            sightings.runs(db, agent, beat.revision, beat.config_hash, at_us)
            agents.record_effective(db, agent, beat.revision)

        return store
