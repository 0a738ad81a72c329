"""What the writer "sql" does to a table, SQLite and PostgreSQL alike: once, all or nothing, and back again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock_agent.sql.writing import connect_writable
from crossdock_agent.writers import base
from crossdock_agent.writers.base import Job, Verdict, WriterContext, WriterUnavailable
from crossdock_agent.writers.receipts import statements
from crossdock_agent.writers.sql import SqlWriter, SqlWriterSettings

COLUMNS = {"NO": "number", "CUSTOMER": "buyer.name", "TOTAL": "total.amount", "DUE": "due"}
LINES = {
    "table": "order_lines", "parent": {"NO": "number"},
    "columns": {"POS": "line", "SKU": "sku", "QTY": "quantity.value"},
}  # fmt: skip


class Place:
    """A database with ORDERS and ORDER_LINES, and writers into it."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.connection = connection
        self.given = 0
        self.run(
            "CREATE TABLE orders (NO varchar(20) PRIMARY KEY, CUSTOMER varchar(12), TOTAL numeric(12,2), DUE date,"
            " NOTES varchar(50), ORIGIN varchar(20))",
            "CREATE TABLE order_lines (NO varchar(20), POS integer, SKU varchar(20), QTY numeric(12,3))",
            *statements(connection.get("dialect", "sqlite")),
        )

    def run(self, *sql: str) -> None:
        with closing(self._connected()) as db:
            for statement in sql:
                db.execute(statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self._connected()) as db:
            return [tuple(row) for row in db.rows(sql)]

    def _connected(self) -> Any:
        typed = msgspec.convert({"connection": self.connection, "table": "t", "key": ["a"], "columns": {"a": "a"}},
                                type=SqlWriterSettings)  # fmt: skip
        return connect_writable(typed.connection, "t", 30.0, lambda text: text, lambda: 0)

    def writer(self, **more: Any) -> SqlWriter:
        settings = {
            "connection": self.connection, "table": "orders", "key": ["NO"], "columns": COLUMNS, "lines": LINES, **more,
        }  # fmt: skip
        made = base.build("sql", settings, WriterContext("erp", lambda _key: None, lambda text: text, lambda: 0))
        assert isinstance(made, SqlWriter)
        return made

    def order(self, total: str = "10.50", version: int = 0, lines: int = 2, customer: str = "ACME") -> Job:
        self.given += 1
        document = {
            "number": "4711", "buyer": {"name": customer}, "total": {"amount": total}, "due": "2026-11-27",
            "lines": [{"line": i, "sku": f"S{i}", "quantity": {"value": f"{i}.500"}} for i in range(1, lines + 1)],
        }  # fmt: skip
        id_ = hashlib.blake2b(str(self.given).encode(), digest_size=16).digest()
        return Job(id_, 1, "SalesOrder", "4711", version or self.given, json.dumps(document).encode())


def apply(writer: SqlWriter, *jobs: Job) -> list[Verdict]:
    prepared = writer.prepare(jobs)
    notes = [note for note in prepared if isinstance(note, bytes)]
    assert len(notes) == len(jobs)
    return writer.apply([noted(job, note) for job, note in zip(jobs, notes, strict=True)])


def noted(job: Job, note: bytes) -> Job:
    return Job(job.id, job.attempt, job.document, job.key, job.version, job.payload, note, job.undo, job.undoes)


def undo_of(job: Job) -> Job:
    id_ = hashlib.blake2b(b"undo" + job.id, digest_size=16).digest()
    return Job(id_, 1, job.document, job.key, job.version, b"", undo=b"sql", undoes=job.id)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "site.db").close()
        yield Place({"sqlite": str(tmp_path / "site.db")})
    else:
        postgres = request.getfixturevalue("postgres")
        yield Place({"odbc": postgres.odbc(), "dialect": "postgresql"})


def test_an_order_and_its_lines_are_written_with_their_receipt_and_only_once(place: Place) -> None:
    job, writer = place.order(), place.writer(set={"ORIGIN": "crossdock"})
    assert [v.outcome for v in apply(writer, job)] == ["applied"]
    place.run("UPDATE orders SET NOTES = 'by hand'")
    assert [v.place for v in apply(writer, job)] == ["applied before, by its receipt"]  # killed before its inbox knew
    writer.close()
    found = place.rows("SELECT NO, CUSTOMER, CAST(TOTAL AS varchar(20)), NOTES, ORIGIN FROM orders")
    assert [(no, customer, float(total), notes, origin) for no, customer, total, notes, origin in found] == [
        ("4711", "ACME", 10.5, "by hand", "crossdock")
    ]
    assert place.rows("SELECT POS, SKU FROM order_lines ORDER BY POS") == [(1, "S1"), (2, "S2")]
    assert len(place.rows("SELECT delivery_id FROM crossdock_receipts")) == 1


def test_a_later_version_replaces_the_row_and_its_lines_and_an_undo_brings_the_earlier_one_back(place: Place) -> None:
    writer = place.writer()
    first, second = place.order("10.50", lines=2), place.order("99.99", lines=1)
    for job in (first, second):
        assert [v.outcome for v in apply(writer, job)] == ["applied"]
    assert len(place.rows("SELECT 1 FROM order_lines")) == 1
    assert [v.code for v in apply(writer, undo_of(first))] == ["conflict"]  # a later one stands on it
    for _ in range(2):  # the second time by its receipt
        assert [v.outcome for v in apply(writer, undo_of(second))] == ["applied"]
    assert [float(t) for (t,) in place.rows("SELECT TOTAL FROM orders")] == [10.5]
    assert place.rows("SELECT POS, SKU FROM order_lines ORDER BY POS") == [(1, "S1"), (2, "S2")]
    assert [v.outcome for v in apply(writer, undo_of(first))] == ["applied"]
    assert place.rows("SELECT 1 FROM orders") == place.rows("SELECT 1 FROM order_lines") == []
    writer.close()


def test_what_somebody_changed_is_neither_overwritten_nor_undone(place: Place) -> None:
    writer = place.writer()
    first, second = place.order(), place.order("99.99")
    apply(writer, first)
    place.run("UPDATE orders SET CUSTOMER = 'OTHER'")
    assert [v.code for v in apply(writer, second)] == ["conflict"]
    assert [v.code for v in apply(writer, undo_of(first))] == ["conflict"]
    assert place.rows("SELECT CUSTOMER FROM orders") == [("OTHER",)]
    writer.close()
    over = place.writer(on_change="overwrite")
    assert [v.outcome for v in apply(over, second)] == ["applied"]
    over.close()
    assert place.rows("SELECT CUSTOMER FROM orders") == [("ACME",)]


def test_lines_that_somebody_added_are_a_change_too(place: Place) -> None:
    writer = place.writer()
    apply(writer, place.order())
    place.run("INSERT INTO order_lines VALUES ('4711', 9, 'X', 1)")
    assert [v.code for v in apply(writer, place.order("99.99"))] == ["conflict"]
    writer.close()
    assert len(place.rows("SELECT 1 FROM order_lines")) == 3


def test_a_row_that_was_there_before_is_updated_and_given_back_by_an_undo(place: Place) -> None:
    place.run("INSERT INTO orders (NO, CUSTOMER, TOTAL, NOTES) VALUES ('4711', 'OLD', 1.25, 'kept')")
    strict = place.writer(on_existing="conflict")
    job = place.order()
    assert [v.code for v in apply(strict, job)] == ["conflict"]
    strict.close()
    writer = place.writer()
    assert [v.outcome for v in apply(writer, job)] == ["applied"]
    assert [v.outcome for v in apply(writer, undo_of(job))] == ["applied"]
    writer.close()
    ((customer, total, notes),) = place.rows("SELECT CUSTOMER, TOTAL, NOTES FROM orders")
    assert (customer, float(total), notes) == ("OLD", 1.25, "kept")


def test_one_document_that_the_database_refuses_does_not_take_the_others_with_it(place: Place) -> None:
    place.run("CREATE UNIQUE INDEX one_customer ON orders (CUSTOMER)")
    good, bad = place.order(), place.order(customer="ACME")
    bad = Job(bad.id, 1, bad.document, "4712", bad.version, bad.payload.replace(b"4711", b"4712"))
    other = place.order(customer="OTHER")
    other = Job(other.id, 1, other.document, "4713", other.version, other.payload.replace(b"4711", b"4713"))
    writer = place.writer()
    verdicts = apply(writer, good, bad, other)
    writer.close()
    assert [(v.outcome, v.code) for v in verdicts] == [("applied", ""), ("rejected", "constraint"), ("applied", "")]
    assert place.rows("SELECT NO FROM orders ORDER BY NO") == [("4711",), ("4713",)]
    assert len(place.rows("SELECT 1 FROM crossdock_receipts")) == 2


def test_an_older_version_never_replaces_a_later_one(place: Place) -> None:
    writer = place.writer()
    apply(writer, place.order("2.00", version=20))
    assert [v.place for v in apply(writer, place.order("1.00", version=10))] == ["a later version of it is there"]
    writer.close()
    assert [float(t) for (t,) in place.rows("SELECT TOTAL FROM orders")] == [2.0]


def test_without_its_table_of_receipts_nothing_is_written_and_nothing_given_up(place: Place) -> None:
    place.run("DROP TABLE crossdock_receipts")
    writer = place.writer()
    with pytest.raises(WriterUnavailable, match="crossdock_receipts"):
        apply(writer, place.order())
    writer.close()
    assert place.rows("SELECT 1 FROM orders") == []


def test_a_procedure_of_the_list_is_called_once(request: pytest.FixtureRequest) -> None:
    postgres = request.getfixturevalue("postgres")
    place = Place({"odbc": postgres.odbc(), "dialect": "postgresql"})
    place.run(
        "CREATE PROCEDURE take_order(no text, whole text) LANGUAGE plpgsql AS $$ BEGIN"
        " IF no = '4712' THEN RAISE EXCEPTION 'order % is closed', no; END IF;"
        " INSERT INTO orders(NO, NOTES) VALUES (no, length(whole)::text); END $$"
    )
    made = base.build(
        "sql",
        {"connection": place.connection, "procedure": {"name": "take_order", "arguments": ["number", "$json"]}},
        WriterContext("erp", lambda _key: None, lambda text: text, lambda: 0),
    )
    assert isinstance(made, SqlWriter)
    job = place.order()
    closed = Job(b"c" * 16, 1, "SalesOrder", "4712", 9, job.payload.replace(b"4711", b"4712"))
    verdicts = [*apply(made, job), *apply(made, job), *apply(made, closed)]
    made.close()
    assert [v.outcome for v in verdicts] == ["applied", "applied", "rejected"]
    assert "order 4712 is closed" in verdicts[2].reason
    assert place.rows("SELECT NO FROM orders") == [("4711",)]


def test_a_document_without_its_key_touches_no_row_of_another(place: Place) -> None:
    place.run(
        "CREATE TABLE loose (NO varchar(20), TOTAL numeric(12,2))",
        "INSERT INTO loose VALUES (NULL, 1)",
        "INSERT INTO order_lines VALUES (NULL, 7, 'THEIRS', 1)",
    )
    keyless = Job(b"k" * 16, 1, "SalesOrder", "4711", 1, b'{"total": {"amount": "9"}, "lines": [{"line": 1}]}')
    for more in ({"table": "loose", "columns": {"NO": "number", "TOTAL": "total.amount"}, "lines": None},
                 {"table": "loose", "columns": {"TOTAL": "total.amount"}, "key": ["TOTAL"]}):  # fmt: skip
        writer = place.writer(**more)
        (verdict,) = apply(writer, keyless)
        writer.close()
        assert (verdict.outcome, verdict.code) == ("rejected", "key_missing")
        assert "number" in verdict.reason
    assert [float(total) for (total,) in place.rows("SELECT TOTAL FROM loose")] == [1.0]
    assert place.rows("SELECT SKU FROM order_lines") == [("THEIRS",)]
