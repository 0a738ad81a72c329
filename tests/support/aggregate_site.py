"""Orders with lines in a real database, their source, and records as a person reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from crossdock_agent.sources.base import Draft
from support.table_site import Server, Sqlite, TableSite, rows_of

LINES: dict[str, Any] = {
    "table": "order_lines", "as": "lines", "on": {"order_no": "order_no"}, "key": ["line_no"], "column": "changed_at",
}  # fmt: skip
ORDERS: dict[str, Any] = {
    "table": "orders", "mode": "timestamp", "column": "changed_at", "key": ["order_no"],
    "aggregate": {"children": [LINES]},
}  # fmt: skip

Order = tuple[str, str | None, dict[int, str]]  # number, customer, item by line


def create(database: Sqlite | Server) -> None:
    time = database.timestamp
    database.execute(
        f"CREATE TABLE orders (order_no VARCHAR(20) PRIMARY KEY, customer VARCHAR(40), line_count INTEGER,"
        f" changed_at {time}, created_at {time})"
    )
    database.execute(
        "CREATE TABLE order_lines (order_no VARCHAR(20), line_no INTEGER, item VARCHAR(40),"
        f" changed_at {time}, created_at {time}, PRIMARY KEY (order_no, line_no))"
    )
    database.execute("CREATE INDEX orders_changed ON orders (changed_at, order_no)")
    database.execute("CREATE INDEX lines_changed ON order_lines (changed_at, order_no, line_no)")


class OrderSite(TableSite):
    """*put* writes a header, *line* a line; without a time they are stamped with the database's present."""

    def __init__(self, database: Sqlite | Server, **settings: Any) -> None:
        super().__init__(connection=database.connection, **{**ORDERS, **settings})
        self.database = database

    def put(self, number: str, customer: str = "c", count: int | None = None, at: str | None = None) -> None:
        time = self.database.now(self) if at is None else f"'{at}'"
        if at == "NULL":
            time = "NULL"
        self.database.execute("DELETE FROM orders WHERE order_no = ?", [number])
        self.database.execute(
            f"INSERT INTO orders (order_no, customer, line_count, changed_at, created_at)"
            f" VALUES (?, ?, ?, {time}, {self.database.now(self)})",
            [number, customer, count],
        )

    def line(self, number: str, line: int, item: str = "a", at: str | None = None) -> None:
        time = self.database.now(self) if at is None else "NULL" if at == "NULL" else f"'{at}'"
        self.database.execute("DELETE FROM order_lines WHERE order_no = ? AND line_no = ?", [number, line])
        self.database.execute(
            "INSERT INTO order_lines (order_no, line_no, item, changed_at, created_at)"
            f" VALUES (?, ?, ?, {time}, {self.database.now(self)})",
            [number, line, item],
        )

    def remove_line(self, number: str, line: int) -> None:
        self.database.execute("DELETE FROM order_lines WHERE order_no = ? AND line_no = ?", [number, line])

    def orders(self, *, advance: float = 0.0, crash_after: int | None = None) -> list[Order]:
        """One pass."""
        return [order_of(self.committed_columns(), row) for row in self.poll(advance=advance, crash_after=crash_after)]

    def all_orders(self, *, passes: int = 150, advance: float = 1.0) -> list[Order]:
        return [order for _ in range(passes) for order in self.orders(advance=advance)]

    def committed_columns(self) -> Any:
        return self.committed[-1].header.columns if self.committed else []


def order_of(columns: Any, row: list[Any]) -> Order:
    names = [column.name for column in columns]
    lines = columns[names.index("lines")]
    inner = [column.name for column in lines.columns]
    number, item = inner.index("line_no"), inner.index("item")
    held = {line[number]: line[item] for line in row[names.index("lines")]}
    return row[names.index("order_no")], row[names.index("customer")], held


def orders_of(draft: Draft) -> list[Order]:
    return [order_of(draft.header.columns, row) for row in rows_of(draft)]


@contextlib.contextmanager
def order_site(database: Sqlite | Server, **settings: Any) -> Iterator[OrderSite]:
    site = OrderSite(database, **settings)
    try:
        yield site
    finally:
        site.source.close()


def with_aggregate(*children: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"aggregate": {"children": list(children) or [LINES], **settings}}
