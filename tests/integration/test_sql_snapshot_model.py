"""A table read by snapshots under any sequence of changes, crashes and restarts, against the table itself.

Chunks are tiny here, so that they split and join all the time. Changes also happen between two statements of a scan.
The controller is played by a replay that drops an event it has seen, as the real one does: what it then holds must be
the table, so no change may come under the identity of an earlier one, and no row may be deleted that is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossdock.errors import Retryable
from crossdock_agent.sql import keychunks, keyscan, revision
from crossdock_agent.sql.keychunks import Chunk, Kept
from crossdock_agent.sql.snapshot import Checkpoint
from support.table_site import Sqlite, TableSite, rows_of

SCHEMAS = {  # key columns that order otherwise than their bytes, hold NULL, or both
    "number": ("a INTEGER PRIMARY KEY, b", ["a"]),
    "text": ("a TEXT COLLATE NOCASE, b TEXT COLLATE RTRIM NOT NULL", ["a", "b"]),
    "several": ("a TEXT COLLATE NOCASE NOT NULL, b INTEGER", ["a", "b"]),
}
TEXTS = ["a", "B", "c", "Ca", "D", "e", "É", "_", "z"]

Key = tuple[Any, ...]
Change = tuple[str, int, int]
changes = st.tuples(st.sampled_from(["insert", "change", "delete", "move"]), st.integers(0, 10**4), st.integers(1, 9))


class SnapshotModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._patches = [
            mock.patch.object(revision, "CHUNK_ROWS", 4), mock.patch.object(keyscan, "CHUNK_ROWS", 4),
            mock.patch.object(keychunks, "MAX_GONE", 2), mock.patch.object(keyscan, "DRAFT_CHUNKS", 3),
        ]  # fmt: skip
        for patch in self._patches:
            patch.start()
        self._directory = tempfile.TemporaryDirectory()
        self.database = Sqlite(Path(self._directory.name) / "erp.db")
        self.database.execute("PRAGMA synchronous = OFF")
        self.versions = 0
        self.held: dict[Key, int] = {}  # what the controller makes of it
        self.seen: set[Key] = set()
        self.was_absent: set[Key] = set()  # at any moment since the scan began

    @initialize(
        schema=st.sampled_from(list(SCHEMAS)), page_rows=st.sampled_from([2, 3, 50]),
        percent=st.sampled_from([100, 30]),
    )  # fmt: skip
    def choose(self, schema: str, page_rows: int, percent: int) -> None:
        columns, self.key = SCHEMAS[schema]
        self.schema = schema
        self.database.execute(f"CREATE TABLE t ({columns}, v INTEGER)")
        self.database.execute(f"CREATE INDEX t_key ON t ({', '.join(self.key)})")
        self.site = TableSite(
            connection=self.database.connection, table="t", mode="snapshot", key=self.key, page_rows=page_rows,
            columns=["v"], snapshot={"max_vanished_percent": percent, "max_vanished_rows": 3},
        )  # fmt: skip

    # --- the table

    def _key(self, number: int) -> Key:
        if self.schema == "number":
            return (number % 60,)
        first = None if number % 13 == 0 and self.schema == "text" else TEXTS[number % len(TEXTS)]
        second: object = f"{TEXTS[number // 9 % 9]}{number % 3}" if self.schema == "text" else number % 17
        return (first, None if self.schema == "several" and number % 17 == 0 else second)

    def table(self) -> dict[Key, int]:
        rows = self.database._writer.execute(f"SELECT {', '.join(self.key)}, v FROM t").fetchall()
        return {tuple(row[:-1]): row[-1] for row in rows}

    def _where(self) -> str:
        return " AND ".join(f"{column} IS ?" for column in self.key)

    def change(self, what: str, number: int, count: int) -> None:
        for i in range(count):
            there = list(self.table())
            self.versions += 1
            version = self.versions % 3  # contents come back
            if what == "insert":
                self._insert(self._key(number + 7 * i), version)
            elif there:
                key = there[(number + i) % len(there)]
                if what in ("delete", "move"):
                    self.database.execute(f"DELETE FROM t WHERE {self._where()}", key)
                    self.was_absent.add(key)
                if what == "move":
                    self._insert(self._key(number * 3 + i), version)
                elif what == "change":
                    self.database.execute(f"UPDATE t SET v = ? WHERE {self._where()}", (version, *key))

    def _insert(self, key: Key, version: int) -> None:
        found = self.database._writer.execute(f"SELECT 1 FROM t WHERE {self._where()}", key).fetchone()
        if found is None:
            names = ", ".join(self.key)
            self.database.execute(
                f"INSERT INTO t ({names}, v) VALUES ({', '.join('?' * len(key))}, ?)", (*key, version)
            )

    @rule(change=changes)
    def alter(self, change: Change) -> None:
        self.change(*change)

    @rule(first=st.integers(0, 40), count=st.integers(5, 40))
    def fill(self, first: int, count: int) -> None:
        self.change("insert", first, count)

    @precondition(lambda self: len(self.table()) > 8)
    @rule()
    def shrink(self) -> None:
        self.was_absent.update(self.table())
        self.database.execute("DELETE FROM t WHERE rowid % 5 <> 0")

    # --- the source

    @rule()
    def scan(self) -> None:
        self._take(None)

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self._take(after)

    @rule(during=st.lists(st.tuples(st.integers(0, 6), changes), min_size=1, max_size=4))
    def scan_while_the_table_changes(self, during: list[tuple[int, Change]]) -> None:
        """So many statements later, each change is committed."""
        left = [list(item) for item in during]

        def between() -> None:
            if left:
                if left[0][0] <= 0:
                    self.change(*left.pop(0)[1])
                else:
                    left[0][0] -= 1

        self._take(None, between)

    def _take(self, after: int | None, between: Callable[[], None] | None = None) -> int:
        """Scan; how many rows were held back."""
        self.was_absent = {key for key in self.held if key not in self.table()}
        if between is not None:
            database = self.site.source._open().database  # type: ignore[attr-defined]
            ask = database.rows
            database.rows = lambda sql, values=(): (between(), ask(sql, values))[1]
        count = 0
        try:
            if after != 0:
                for draft in self.site.reading():
                    self._replay(draft.header.checkpoint, rows_of(draft), draft.header.records)
                    count += 1
                    if count == after:
                        break
        except Retryable:  # the brake
            return self.site.counters.snapshot()["vanished_held_back"]
        finally:
            if between is not None:
                database.rows = ask
        if after is not None:
            self.site.restart()
        return 0

    def _replay(self, checkpoint: bytes, rows: Sequence[Sequence[Any]], _count: int) -> None:
        assert len(checkpoint) < 4096
        for v, *key, op, version in rows:
            event = (v, *key, op, version)
            assert event not in self.seen, "an event came twice"
            self.seen.add(event)
            if op == "delete":
                assert tuple(key) in self.was_absent, "a row was deleted that was there all the time"
                assert v is None
                self.held.pop(tuple(key), None)
            else:
                self.held[tuple(key)] = v

    @invariant()
    def what_is_kept_adds_up(self) -> None:
        if not hasattr(self, "site") or self.site.checkpoint is None:
            return
        kept: Kept = msgspec.msgpack.decode(self.site.checkpoint, type=Checkpoint).kept
        slot, rows, missing, chain = kept.head, 0, 0, []
        while slot != keychunks.NOWHERE:
            chunk = msgspec.msgpack.decode(self.site.ledger[f"keys/{slot}"], type=Chunk)
            assert chunk.rows <= 16  # twice the limit, half-way through a range
            rows, missing = rows + chunk.rows, missing + chunk.missing
            chain.append(slot)
            slot = chunk.next
        assert (rows, missing) == (kept.rows, kept.missing)
        assert chunk.hi is None
        free, slot = 0, kept.free
        while slot != keychunks.NOWHERE:
            slot = msgspec.msgpack.decode(self.site.ledger[f"keys/{slot}"], type=int)
            free += 1
        assert len(set(chain)) + free == kept.slots

    def teardown(self) -> None:
        try:
            if hasattr(self, "site"):
                self._quiet_down()
        finally:
            if hasattr(self, "site"):
                self.site.source.close()
            self.database.close()
            self._directory.cleanup()
            for patch in self._patches:
                patch.stop()

    def _quiet_down(self) -> None:
        for _ in range(4):
            held_back = self._take(None)
            if held_back:
                self.site.settings["snapshot"]["accept_vanished"] = held_back
                self.site.restart()
        assert self.held == self.table()


TestSnapshotModel = SnapshotModel.TestCase
TestSnapshotModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
