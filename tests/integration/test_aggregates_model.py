"""Orders under any sequence of transactions, passes, crashes and waits, against what was committed.

Transactions take their times when they begin and commit in any order, none later than the look-back. In the end the
last record of each order is what the tables hold; while nothing changes, nothing comes twice.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.aggregate_site import OrderSite, create, with_aggregate
from support.table_site import Sqlite

LOOK_BACK_SECONDS = 60.0
ORDERS = 5


@dataclass
class Transaction:
    begun: float
    order: str
    statements: list[tuple[str, list[Any]]]


class AggregateModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.database = Sqlite(Path(self._directory.name) / "erp.db")
        create(self.database)
        self.open: list[Transaction] = []
        self.versions = 0
        self.last: dict[str, tuple[str | None, dict[int, str]]] = {}

    @initialize(
        page_rows=st.sampled_from([2, 5, 5000]),
        settle=st.sampled_from([0.0, 4.0, 90.0]),
        expect=st.booleans(),
        digits=st.sampled_from([19, 23]),
    )
    def choose(self, page_rows: int, settle: float, expect: bool, digits: int) -> None:
        self.digits = digits  # of a time: to the second, or to the millisecond
        wholeness: dict[str, Any] = {"settle_seconds": settle, "incomplete_seconds": 30.0}
        if expect:
            wholeness["expect"] = {"lines": "line_count"}
        self.site = OrderSite(
            self.database, page_rows=page_rows, look_back_seconds=LOOK_BACK_SECONDS, poll_seconds=1.0,
            **with_aggregate(**wholeness),
        )  # fmt: skip

    def _stamp(self) -> str:
        return str(self.database.scalar(f"SELECT substr({self.database.now(self.site)}, 1, {self.digits})"))

    def _begin(self, number: int, *statements: tuple[str, list[Any]]) -> None:
        order = f"A{number}"
        if order not in {transaction.order for transaction in self.open}:  # its rows are locked by the other one
            self.open.append(Transaction(self.site.seconds, order, list(statements)))

    @rule(number=st.integers(1, ORDERS), count=st.sampled_from([None, 1, 2]))
    def header(self, number: int, count: int | None) -> None:
        self._begin(number, self._header(number, count))

    def _header(self, number: int, count: int | None) -> tuple[str, list[Any]]:
        self.versions += 1
        sql = "INSERT OR REPLACE INTO orders (order_no, customer, line_count, changed_at) VALUES (?, ?, ?, ?)"
        return sql, [f"A{number}", f"c{self.versions}", count, self._stamp()]

    @rule(number=st.integers(1, ORDERS), line=st.integers(1, 3))
    def change_line(self, number: int, line: int) -> None:
        self.versions += 1
        sql = "INSERT OR REPLACE INTO order_lines (order_no, line_no, item, changed_at) VALUES (?, ?, ?, ?)"
        self._begin(number, (sql, [f"A{number}", line, f"i{self.versions}", self._stamp()]))

    @rule(number=st.integers(1, ORDERS), line=st.integers(1, 3))
    def remove_line(self, number: int, line: int) -> None:
        delete = "DELETE FROM order_lines WHERE order_no = ? AND line_no = ?"
        self._begin(number, (delete, [f"A{number}", line]), self._header(number, None))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def commit(self, which: int) -> None:
        self._commit(self.open.pop(which % len(self.open)))

    def _commit(self, transaction: Transaction) -> None:
        self.database.execute("BEGIN")
        for sql, values in transaction.statements:
            self.database.execute(sql, values)
        self.database.execute("COMMIT")

    @rule(seconds=st.floats(0.01, 25))
    def wait(self, seconds: float) -> None:
        until = self.site.seconds + seconds
        for transaction in [t for t in self.open if t.begun + LOOK_BACK_SECONDS - 1 <= until]:
            self.open.remove(transaction)
            self._commit(transaction)
        self.site.seconds = until

    @rule(advance=st.sampled_from([0.0, 0.2, 1.0]))
    def poll(self, advance: float) -> None:
        self._take(advance=advance)

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self._take(crash_after=after)

    def _take(self, **how: Any) -> int:
        found = self.site.orders(**how)
        self.last.update({number: (customer, lines) for number, customer, lines in found})
        return len(found)

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for transaction in self.open:
                self._commit(transaction)
            for _ in range(170):
                self._take(advance=1.0)
            assert self.last == self._held()
            assert sum(self._take(advance=1.0) for _ in range(70)) == 0, "an order came again although nothing changed"
            self.site.source.close()
        self.database.close()
        self._directory.cleanup()

    def _held(self) -> dict[str, tuple[str | None, dict[int, str]]]:
        held = {number: (customer, {}) for number, customer in self._rows("SELECT order_no, customer FROM orders")}
        for number, line, item in self._rows("SELECT order_no, line_no, item FROM order_lines ORDER BY line_no"):
            if number in held:
                held[number][1][line] = item
        return held

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database._writer.execute(sql).fetchall()


TestAggregateModel = AggregateModel.TestCase
TestAggregateModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
