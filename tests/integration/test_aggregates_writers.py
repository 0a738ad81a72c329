"""Writers that commit headers and lines apart and out of order, while the agent is killed at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pyodbc
import pytest

from support.aggregate_site import OrderSite, create, order_site, with_aggregate
from support.postgres import Postgres
from support.table_site import Server

WRITERS = 4
STEPS = 120  # transactions of one writer


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Server]:
    opened = Server(postgres)
    create(opened)
    yield opened
    opened.close()


class Writer(threading.Thread):
    """Keeps three transactions open, each on one side of an order of its own, and commits them in any order."""

    def __init__(self, postgres: Postgres, number: int) -> None:
        super().__init__()
        self._number, self._random = number, random.Random(number)
        self._connections = [postgres.connect() for _ in range(3)]
        for connection in self._connections:
            connection.autocommit = False
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            busy: dict[int, str] = {}
            for step in range(STEPS):
                at = self._random.randrange(3)
                if at in busy:
                    self._connections[at].commit()
                    del busy[at]
                order = f"W{self._number}-{self._random.randrange(12)}"
                if order not in busy.values():
                    busy[at] = order
                    self._step(self._connections[at], order, step)
            for connection in self._connections:
                connection.commit()
                connection.close()
        except pyodbc.Error as error:  # told to the test
            self.failure = error

    def _step(self, connection: Any, order: str, step: int) -> None:
        header = (
            "INSERT INTO orders (order_no, customer, changed_at) VALUES (?, ?, now() AT TIME ZONE 'UTC')"
            " ON CONFLICT (order_no) DO UPDATE SET customer = excluded.customer, changed_at = excluded.changed_at"
        )
        choice = self._random.random()
        if choice < 0.4:
            connection.execute(header, order, f"c{step}")
        elif choice < 0.85:
            connection.execute(
                "INSERT INTO order_lines (order_no, line_no, item, changed_at)"
                " VALUES (?, ?, ?, now() AT TIME ZONE 'UTC') ON CONFLICT (order_no, line_no)"
                " DO UPDATE SET item = excluded.item, changed_at = excluded.changed_at",
                order, self._random.randrange(6), f"i{step}",
            )  # fmt: skip
        else:  # as a real ERP: a line goes, only the header shows it
            connection.execute("DELETE FROM order_lines WHERE order_no = ? AND line_no < 3", order)
            connection.execute(header, order, f"c{step}")


@pytest.mark.parametrize("settle_seconds", [0.0, 0.2])
def test_in_the_end_the_last_record_of_each_order_is_what_the_database_holds(
    database: Server, postgres: Postgres, settle_seconds: float
) -> None:
    chance = random.Random(7)
    settings = {"page_rows": 20, **with_aggregate(settle_seconds=settle_seconds)}
    with order_site(database, **settings) as site:
        last: dict[str, Any] = {}
        writers = [Writer(postgres, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            take(last, site, crash_after=chance.choice([None, 0, 1, 2]))
        assert [writer.failure for writer in writers] == [None] * WRITERS
        for _ in range(150):
            take(last, site)
        expected = {
            str(number): (customer, dict(database.rows(
                f"SELECT line_no, item FROM order_lines WHERE order_no = '{number}'"
            )))
            for number, customer in database.rows("SELECT order_no, customer FROM orders")
        }  # fmt: skip
        assert len(expected) > 30
        assert last == expected


def take(last: dict[str, Any], site: OrderSite, crash_after: int | None = None) -> None:
    for number, customer, lines in site.orders(advance=1.0, crash_after=crash_after):
        last[number] = (customer, lines)
