"""The SQL by which aggregates are fetched, and the decision whether one has to wait; no database is asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from crossdock.errors import ConfigError
from crossdock_agent.sql.dialects import MARIADB, MYSQL, POSTGRESQL, SQLITE, Dialect
from crossdock_agent.sql.families import ROWS_AT_ONCE, Families, Family, Part
from crossdock_agent.sql.reading import prepare
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable
from crossdock_agent.sql.waiting import Entry, Patience


class Told:
    """A database that only says what it was asked, and answers with *answers* in order."""

    def __init__(self, dialect: Dialect, *answers: list[tuple[Any, ...]]) -> None:
        self.dialect, self.asked, self.answers = dialect, list[tuple[str, list[object]]](), list(answers)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.asked.append((sql, list(values)))
        return self.answers.pop(0) if self.answers else []

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def catalog(self, table: str) -> CatalogTable:
        names = {"heads": ["co", "no", "at"], "items": ["firm", "doc", "pos", "text"]}[table]
        kinds = {"co": "int", "no": "varchar", "firm": "int", "doc": "varchar", "pos": "int", "at": "datetime"}
        return CatalogTable("erp", table, False, tuple(CatalogColumn(n, kinds.get(n, "varchar"), False) for n in names))


def families(dialect: Dialect, key: list[str], *answers: list[tuple[Any, ...]]) -> tuple[Families, Told]:
    on = {"firm": "co", "doc": "no"}
    child = {"table": "items", "as": "lines", "on": {c: p for c, p in on.items() if p in key}, "key": ["pos"]}
    settings = msgspec.convert(
        {
            "connection": {"odbc": "x", "dialect": "mariadb"}, "table": "heads", "mode": "timestamp", "column": "at",
            "key": key, "aggregate": {"children": [{**child, "where": "s.pos > 0 -- no notes"}]},
        },
        SqlTableSettings,
    )  # fmt: skip
    told = Told(dialect, *answers)
    return Families(told, settings, prepare(told, settings), {}), told  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", [MARIADB, MYSQL])
def test_one_key_column_is_a_list_and_children_are_joined_by_the_database(dialect: Dialect) -> None:
    made, told = families(dialect, ["no"], [(1, "A", "2024-01-01 00:00:00")])
    assert [family.key for family in made.of([("A",), ("B",), ("C",)])] == [("A",)]
    (parent, values), (children, found) = told.asked
    assert parent == (
        "SELECT s.`co`, s.`no`, CAST(s.`at` AS CHAR)\nFROM `erp`.`heads` AS s\n"
        "WHERE s.`no` IN (?, ?, ?, ?, ?, ?, ?, ?)\nORDER BY s.`no`"
    )
    assert values == ["A", "B", "C", "C", "C", "C", "C", "C"]  # one text for any number of keys stays prepared
    assert found == ["A", "A"]  # the keys that the parents have, as the database spells them
    assert children == (
        "SELECT s.`firm`, s.`doc`, s.`pos`, s.`text`, p.`no`\n"
        "FROM `erp`.`items` AS s JOIN `erp`.`heads` AS p ON p.`no` = s.`doc`\n"
        "WHERE (\ns.pos > 0 -- no notes\n) AND p.`no` IN (?) AND s.`doc` IN (?)\n"
        f"ORDER BY p.`no`, s.`pos`\nLIMIT {ROWS_AT_ONCE + 1}"
    )


def test_several_key_columns_are_ors_of_ands_and_a_null_in_a_key_is_asked_for_as_one() -> None:
    made, told = families(MARIADB, ["co", "no"])
    list(made.of([(1, "A"), (None, "B")]))
    sql, values = told.asked[0]
    assert sql.split("\n")[2] == "WHERE ((s.`co` = ? AND s.`no` = ?) OR (s.`co` IS NULL AND s.`no` = ?))"
    assert values == [1, "A", "B"]
    made, told = families(MARIADB, ["no"])
    list(made.of([(None,)]))
    assert told.asked[0][0].split("\n")[2] == "WHERE (s.`no` IS NULL)"


def test_too_many_child_rows_in_one_answer_ask_for_fewer_keys() -> None:
    def head(key: str) -> tuple[Any, ...]:
        return (1, key, "2024-01-01 00:00:00")

    rows = [(1, "A", i, "x", "A") for i in range(ROWS_AT_ONCE + 1)]
    made, _ = families(MARIADB, ["no"], [head("A"), head("B")], rows, [head("A")], rows, [head("B")], [])
    found = list(made.of([("A",), ("B",)]))
    assert [(family.key, len(family.parts[1].packed)) for family in found] == [(("A",), len(rows)), (("B",), 0)]


def test_a_child_whose_column_is_of_another_type_is_found_through_the_parent_alone() -> None:
    """7 and '07' may be equal to the database that joins them, but not to one that compares a list."""
    made, told = families(MARIADB, ["co"], [(7, "A", "2024-01-01 00:00:00")])
    told.catalog = lambda table: CatalogTable(  # type: ignore[method-assign]
        "erp", table, False, tuple(CatalogColumn(n, "varchar", False) for n in ("firm", "pos"))
    )
    settings = made._settings
    made = Families(told, settings, prepare(Told(MARIADB), settings), {})  # type: ignore[arg-type]
    list(made.of([(7,)]))
    assert told.asked[1][0].split("\n")[2:4] == ["WHERE (", "s.pos > 0 -- no notes"]
    assert told.asked[1][0].split("\n")[4] == ") AND p.`co` IN (?)"


def test_rows_that_the_key_does_not_tell_apart_stand_in_the_order_of_their_content() -> None:
    head = [(1, "A", "2024-01-01 00:00:00")]
    rows = [(1, "A", 1, "b", "A"), (1, "A", 1, "a", "A"), (1, "A", 2, "0", "A")]
    records = []
    for answer in (rows, [rows[1], rows[0], rows[2]]):
        made, _ = families(MARIADB, ["no"], head, answer)
        (family,) = made.of([("A",)])
        records.append(family.encode(3))
    assert records[0] == records[1]
    decoded = msgspec.msgpack.decode(records[0])
    assert [line[3] for line in decoded[3]] == ["a", "b", "0"]


@pytest.mark.parametrize("lines", [0, 15, 16, 65_535, 65_536])
def test_a_record_is_one_msgpack_array_whatever_the_number_of_lines(lines: int) -> None:
    packed = [msgspec.msgpack.encode([i]) for i in range(lines)]
    for width in (1, 15, 16):
        parent = msgspec.msgpack.encode(list(range(width)))
        family = Family(("A",), [Part([parent], [None]), Part(packed, [None] * lines)], [None])
        decoded = msgspec.msgpack.decode(family.encode(width))
        assert decoded[:width] == list(range(width))
        assert decoded[width] == [[i] for i in range(lines)]


def test_a_database_without_a_snapshot_is_refused_rather_than_read_torn() -> None:
    with pytest.raises(ConfigError, match="aggregates cannot be read from oldbase yet"):
        families(replace(MARIADB, name="oldbase", snapshot=()), ["no"])
    for dialect in (SQLITE, POSTGRESQL, MARIADB, MYSQL):
        assert dialect.snapshot


def family(lines: int = 0, expected: object = None) -> Family:
    return Family(("A",), [Part([b"x"], [None]), Part([b"y"] * lines, [None] * lines)], [expected])


@pytest.mark.parametrize(
    ("age", "said", "lines", "wait", "incomplete"),
    [
        (10.0, None, 0, 0.0, False),
        (2.0, None, 0, 3.0, False),  # too young
        (-5.0, None, 0, 5.0, False),  # dated in the future: by our own clock
        (None, None, 0, 5.0, False),  # no date
        (10.0, 2, 2, 0.0, False),
        (10.0, "2.000", 2, 0.0, False),
        (10.0, 2, 1, 50.0, True),
        (10.0, 1, 2, 50.0, True),  # more than it says: one of the two is not up to date
        (70.0, 2, 1, 0.0, True),  # waited long enough
        (10.0, "two", 2, 50.0, True),
    ],
)
def test_what_has_to_wait_and_how_long(age: Any, said: Any, lines: int, wait: float, incomplete: bool) -> None:
    verdict = Patience(5.0, 60.0).judge(family(lines, said), age, None, 1, 100.0)
    assert (verdict.wait_seconds, verdict.incomplete) == (wait, incomplete)


def test_what_was_seen_unchanged_for_so_long_need_not_have_a_date() -> None:
    entry = Entry(since=0.0, due=0.0, triggers=[{}], state=1, unchanged_since=94.0)
    patience = Patience(5.0, 60.0)
    assert patience.judge(family(), None, entry, 1, 99.0).wait_seconds == 0.0
    assert patience.judge(family(), None, entry, 2, 99.0).wait_seconds == 5.0  # it changed just now
    assert patience.judge(family(1, 2), -9.0, entry, 1, 161.0).wait_seconds == 0.0
