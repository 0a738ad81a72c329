"""A table under any sequence of transactions, passes, crashes and restarts, against the list of what was committed.

Transactions take their ids and timestamps when they begin and commit in any order, as long as none stays open longer
than the look-back. Every version that is still there at the end must have come, and none may come twice.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.table_site import Sqlite, TableSite

LOOK_BACK_SECONDS = 60.0
START_SECONDS = 1717243200.0


@dataclass
class Transaction:
    begun: float
    rows: list[tuple[int, int, str]]  # id, version, timestamp


class TableModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.database = Sqlite(Path(self._directory.name) / "erp.db")
        self.database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, at TEXT)")
        self.open: list[Transaction] = []
        self.ids = self.versions = 0
        self.sent: Counter[tuple[int, int]] = Counter()
        self.present: dict[int, int] = {}

    @initialize(mode=st.sampled_from(["incrementing", "timestamp"]), page_rows=st.sampled_from([2, 7, 5000]))
    def choose(self, mode: str, page_rows: int) -> None:
        self.mode = mode
        self.site = TableSite(
            connection=self.database.connection, table="t", mode=mode, page_rows=page_rows, key=["id"],
            column="id" if mode == "incrementing" else "at", look_back_seconds=LOOK_BACK_SECONDS, poll_seconds=1.0,
        )  # fmt: skip

    def _stamp(self) -> str:
        seconds = self.database.scalar(
            f"SELECT strftime('%Y-%m-%d %H:%M:%f', {START_SECONDS + self.site.seconds}, 'unixepoch')"
        )
        return str(seconds)

    @rule(count=st.integers(1, 12))
    def begin(self, count: int) -> None:
        at, rows = self._stamp(), []
        for _ in range(count):
            self.ids += 1
            self.versions += 1
            rows.append((self.ids, self.versions, at))
        self.open.append(Transaction(self.site.seconds, rows))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def commit(self, which: int) -> None:
        self._commit(self.open.pop(which % len(self.open)))

    def _commit(self, transaction: Transaction) -> None:
        self.database.executemany("INSERT INTO t VALUES (?, ?, ?)", transaction.rows)
        self.present.update({number: version for number, version, _ in transaction.rows})

    @precondition(lambda self: self.mode == "timestamp" and self.present)
    @rule(which=st.integers(0, 10**6))
    def change(self, which: int) -> None:
        number = sorted(self.present)[which % len(self.present)]
        self.versions += 1
        self.present[number] = self.versions
        self.database.execute("UPDATE t SET version = ?, at = ? WHERE id = ?", [self.versions, self._stamp(), number])

    @rule(seconds=st.floats(0.01, 25))
    def wait(self, seconds: float) -> None:
        """Time passes; who would have been open for longer than the look-back commits before."""
        until = self.site.seconds + seconds
        for transaction in [t for t in self.open if t.begun + LOOK_BACK_SECONDS - 1 <= until]:
            self.open.remove(transaction)
            self._commit(transaction)
        self.site.seconds = until

    @rule(advance=st.sampled_from([0.0, 0.2, 1.0]))
    def poll(self, advance: float) -> None:
        self._take(self.site.poll(advance=advance))

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self._take(self.site.poll(crash_after=after))

    def _take(self, rows: list[list[object]]) -> None:
        self.sent.update((int(str(row[0])), int(str(row[1]))) for row in rows)
        assert max(self.sent.values(), default=1) == 1, "a row was sent twice"

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for transaction in self.open:
                self._commit(transaction)
            for _ in range(80):
                self._take(self.site.poll(advance=1.0))
            missing = {(n, v) for n, v in self.present.items()} - set(self.sent)
            assert not missing, f"never sent: {sorted(missing)}"
            self.site.source.close()
        self.database.close()
        self._directory.cleanup()


TestTableModel = TableModel.TestCase
TestTableModel.settings = settings(
    max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
