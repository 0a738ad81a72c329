"""A table read by watermark with a reading by key beside it, under any sequence of changes, crashes and restarts.

Changes stamp rows rightly, too early, not at all, or leave the stamp alone; rows are deleted. Once a reconciliation has
gone by, what the controller has made of it all must be the table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from crossdock_agent.sql import keychunks, keyscan, overlay, revision
from support.table_site import Sqlite, TableSite, rows_of

DAY = 86_400.0
STAMPS = {  # how a row may be stamped, as SQL over the present {now}
    "now": "{now}", "long ago": "strftime('%Y-%m-%d %H:%M:%f', {now}, '-3 hours')", "never": "NULL",
    "just now": "strftime('%Y-%m-%d %H:%M:%f', {now}, '-20 seconds')",
}  # fmt: skip


class ReconcileModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._patches = [
            mock.patch.object(revision, "CHUNK_ROWS", 4), mock.patch.object(keyscan, "CHUNK_ROWS", 4),
            mock.patch.object(keychunks, "MAX_GONE", 2), mock.patch.object(keyscan, "DRAFT_CHUNKS", 3),
            mock.patch.object(overlay, "SEGMENT_HASHES", 5), mock.patch.object(overlay, "MAX_SEGMENTS", 12),
        ]  # fmt: skip
        for patch in self._patches:
            patch.start()
        self._directory = tempfile.TemporaryDirectory()
        self.database = Sqlite(Path(self._directory.name) / "erp.db")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER, at TEXT)")
        self.versions = self.ids = 0
        self.held: dict[int, int] = {}
        self.seen: set[tuple[Any, ...]] = set()

    @initialize(
        load=st.sampled_from(["watermark", "key"]), page_rows=st.sampled_from([2, 5, 50]), rows=st.integers(0, 30)
    )
    def choose(self, load: str, page_rows: int, rows: int) -> None:
        for _ in range(rows):
            self._insert("'2024-05-01 12:00:00.000'")
        self.site = TableSite(
            connection=self.database.connection, table="t", mode="timestamp", column="at", key=["id"],
            page_rows=page_rows, poll_seconds=5.0, initial_load=load, purged=True,
            reconcile={"deletes": True, "max_vanished_percent": 100, "every_seconds": DAY},
        )  # fmt: skip

    def _insert(self, at: str) -> None:
        self.ids += 1
        self.versions += 1
        self.database.execute(f"INSERT INTO t VALUES (?, ?, {at})", (self.ids, self.versions))

    def _stamp(self, how: str) -> str:
        return STAMPS[how].format(now=self.database.now(self.site))

    @rule(how=st.sampled_from(list(STAMPS)), count=st.integers(1, 8))
    def insert(self, how: str, count: int) -> None:
        for _ in range(count):
            self._insert(self._stamp(how))

    @precondition(lambda self: self.table())
    @rule(how=st.sampled_from([*STAMPS, "silent"]), which=st.integers(0, 10**4), count=st.integers(1, 4))
    def change(self, how: str, which: int, count: int) -> None:
        there = sorted(self.table())
        for i in range(count):
            self.versions += 1
            at = "at" if how == "silent" else self._stamp(how)
            number = there[(which + 5 * i) % len(there)]
            self.database.execute(f"UPDATE t SET v = ?, at = {at} WHERE id = ?", (self.versions, number))

    @precondition(lambda self: self.table())
    @rule(which=st.integers(0, 10**4), count=st.integers(1, 6))
    def delete(self, which: int, count: int) -> None:
        there = sorted(self.table())
        for i in range(count):
            self.database.execute("DELETE FROM t WHERE id = ?", [there[(which + i) % len(there)]])

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 70.0, DAY]))
    def poll(self, seconds: float) -> None:
        self._take(self.site.poll(advance=seconds))

    @rule(seconds=st.sampled_from([5.0, DAY]), after=st.integers(0, 4))
    def crash(self, seconds: float, after: int) -> None:
        self._take(self.site.poll(advance=seconds, crash_after=after))

    @rule(seconds=st.sampled_from([2.0, 6.0]), changes=st.lists(st.integers(0, 10**4), min_size=1, max_size=4))
    def poll_while_the_table_changes(self, seconds: float, changes: list[int]) -> None:
        self.site.seconds += DAY
        for draft in self.site.reading():
            self._take(rows_of(draft))
            self.site.seconds += seconds
            if changes and self.table():
                self.change(["now", "silent"][changes[0] % 2], changes.pop(), 2)

    def table(self) -> dict[int, int]:
        return dict(self.database._writer.execute("SELECT id, v FROM t").fetchall())

    def _take(self, rows: list[list[Any]]) -> None:
        for number, v, at, op, version in rows:
            event = (number, v, at, op, version)
            if event in self.seen:  # dropped, as the controller does
                continue
            self.seen.add(event)
            if op == "delete":
                self.held.pop(number, None)
            else:
                self.held[number] = v

    def teardown(self) -> None:
        try:
            if hasattr(self, "site"):
                for _ in range(3):
                    for _ in range(34):
                        self._take(self.site.poll(advance=5.0))
                    self.site.seconds += DAY
                self.last = self.table()
                assert self.held == self.last
                assert self.site.counters.snapshot()["reconcile_missed"] == 0
        finally:
            if hasattr(self, "site"):
                self.site.source.close()
            self.database.close()
            self._directory.cleanup()
            for patch in self._patches:
                patch.stop()


TestReconcileModel = ReconcileModel.TestCase
TestReconcileModel.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
