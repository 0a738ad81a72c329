"""An outbox table under any sequence of commits, passes, releases, crashes and lost disks, against what was committed.

A row may only leave the table when its content was sent, and every row must be sent. It is sent once, unless the disk
was lost or someone changed it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.table_site import Sqlite, TableSite


class OutboxModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.database = Sqlite(Path(self._directory.name) / "erp.db")
        self.database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER)")
        self.open: list[list[int]] = []  # transactions by their ids
        self.ids = self.versions = 0
        self.committed: set[tuple[int, int]] = set()
        self.superseded: set[tuple[int, int]] = set()  # changed before anyone was sure to see it
        self.sent: Counter[tuple[int, int]] = Counter()
        self.lost_disk = False

    @initialize(page_rows=st.sampled_from([2, 7, 5000]), limit=st.sampled_from([3, 20, 10**6]))
    def choose(self, page_rows: int, limit: int) -> None:
        self.site = TableSite(
            connection=self.database.connection, table="t", mode="outbox", column="id", page_rows=page_rows,
            outbox={"max_in_flight": limit},
        )  # fmt: skip

    @rule(count=st.integers(1, 12))
    def begin(self, count: int) -> None:
        self.open.append(list(range(self.ids + 1, self.ids + count + 1)))
        self.ids += count

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def commit(self, which: int) -> None:
        rows = [(number, self._version()) for number in self.open.pop(which % len(self.open))]
        self.database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        self.committed.update(rows)

    @precondition(lambda self: self._present())
    @rule(which=st.integers(0, 10**6))
    def change(self, which: int) -> None:
        """Someone changes a row that is perhaps in flight."""
        rows = sorted(self._present())
        number, version = rows[which % len(rows)]
        self.superseded.add((number, version))
        self.committed.add((number, self._version()))
        self.database.execute("UPDATE t SET version = ? WHERE id = ?", [self.versions, number])

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 10**6))
    def reuse(self, which: int) -> None:
        """An id that was released is handed out again."""
        free = sorted({number for number, _ in self.sent} - {number for number, _ in self._present()})
        if free:
            row = (free[which % len(free)], self._version())
            self.database.executemany("INSERT INTO t VALUES (?, ?)", [row])
            self.committed.add(row)

    @rule(advance=st.sampled_from([0.0, 1.0, 40.0]))
    def poll(self, advance: float) -> None:
        self._take(self.site.poll(advance=advance))

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self._take(self.site.poll(crash_after=after))

    @precondition(lambda self: self.site.tokens)
    @rule(recorded=st.booleans())
    def release(self, recorded: bool) -> None:
        before = self._present()
        self.site.source.release(self.site.tokens[0])
        gone = before - self._present()
        assert gone <= set(self.sent), f"deleted unread: {sorted(gone - set(self.sent))}"
        if recorded:
            self.site.tokens.pop(0)
        else:
            self.site.restart()  # killed before the outbox could record it

    @rule()
    def lose_the_disk(self) -> None:
        self.site.tokens.clear()
        self.site.ledger.clear()
        self.site.restart()
        self.lost_disk = True

    def _version(self) -> int:
        self.versions += 1
        return self.versions

    def _present(self) -> set[tuple[int, int]]:
        return {(int(i), int(v)) for i, v in self.database._writer.execute("SELECT id, version FROM t")}

    def _take(self, rows: list[list[int]]) -> None:
        self.sent.update((row[0], row[1]) for row in rows)
        assert set(self.sent) <= self.committed
        if not self.lost_disk:
            assert max(self.sent.values(), default=1) == 1, "a row was sent twice"

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for ids in self.open:
                rows = [(number, self._version()) for number in ids]
                self.database.executemany("INSERT INTO t VALUES (?, ?)", rows)
                self.committed.update(rows)
            for _ in range(200):
                self._take(self.site.poll(advance=40.0))
                self.site.acknowledge()
                if not self._present():
                    break
            assert not self._present()
            assert not self.committed - self.superseded - set(self.sent)
            self.site.source.close()
        self.database.close()
        self._directory.cleanup()


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(
    max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
