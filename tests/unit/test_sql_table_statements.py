"""The SQL each dialect is sent, word for word.

PostgreSQL and SQLite are proved against real ones elsewhere; MariaDB and MySQL have met no server, only these texts.
"""

import pytest

from crossdock_agent.sql.connections import session_limits
from crossdock_agent.sql.dialects import DIALECTS, MARIADB, POSTGRESQL, SQLITE, Dialect, sqlite_kind
from crossdock_agent.sql.statements import CatalogColumn, CatalogTable, Statements, resolve

DECLARED = {
    "sqlite": {
        "id": "INTEGER",
        "no": "TEXT",
        "line": "INTEGER",
        "made": "DATETIME",
        "changed": "DATETIME",
        "qty": "NUMERIC",
    },
    "postgresql": {
        "id": "bigint",
        "no": "character varying",
        "line": "integer",
        "made": "timestamp without time zone",
        "changed": "timestamp without time zone",
        "qty": "numeric",
    },
    "mariadb": {
        "id": "bigint",
        "no": "varchar",
        "line": "int",
        "made": "datetime",
        "changed": "datetime",
        "qty": "decimal",
    },
}


def statements(
    dialect: Dialect,
    columns: list[str],
    watermark: list[str],
    key: list[str],
    where: str | None = None,
    nullable: tuple[str, ...] = (),
) -> Statements:
    declared = DECLARED["mariadb" if dialect.name == "mysql" else dialect.name]
    catalog = CatalogTable(
        "" if dialect is SQLITE else "erp",
        "lines",
        False,
        tuple(CatalogColumn(name, kind, name in nullable) for name, kind in declared.items()),
    )
    found = {c.name: resolve(dialect, c, c.name) for c in catalog.columns}
    return Statements(
        dialect, catalog, [found[c] for c in columns], [found[c] for c in watermark], [found[c] for c in key], where
    )


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (SQLITE, 'SELECT s."id", s."qty"\nFROM "lines" AS s\nWHERE s."id" > ?\nORDER BY s."id"\nLIMIT 10'),
        (
            POSTGRESQL,
            'SELECT s."id", CAST(s."qty" AS text)\nFROM "erp"."lines" AS s\nWHERE s."id" > CAST(? AS bigint)\n'
            'ORDER BY s."id"\nLIMIT 10',
        ),
        (
            MARIADB,
            "SELECT s.`id`, CAST(s.`qty` AS CHAR)\nFROM `erp`.`lines` AS s\nWHERE s.`id` > ?\n"
            "ORDER BY s.`id`\nLIMIT 10",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else "",
)
def test_an_incrementing_page_begins_strictly_after_the_last_id(dialect: Dialect, expected: str) -> None:
    assert statements(dialect, ["id", "qty"], ["id"], []).page([41], 10) == (expected, [41])


def test_the_first_page_leaves_out_rows_without_a_watermark() -> None:
    sql, values = statements(POSTGRESQL, ["no"], ["changed"], ["no"]).page(None, 5)
    assert 'WHERE s."changed" IS NOT NULL\nORDER BY s."changed", s."no"' in sql
    assert values == []


def test_a_timestamp_page_compares_row_values_where_the_key_cannot_be_null() -> None:
    made = statements(POSTGRESQL, ["no", "line", "changed"], ["changed"], ["no", "line"])
    sql, values = made.page(["2024-01-01 00:00:00.000001", "A", 1], 100)
    assert sql == (
        'SELECT s."no", s."line", CAST(s."changed" AS text)\nFROM "erp"."lines" AS s\n'
        'WHERE (s."changed", s."no", s."line") > (CAST(? AS timestamp), CAST(? AS text), CAST(? AS bigint))\n'
        'ORDER BY s."changed", s."no", s."line"\nLIMIT 100'
    )
    assert values == ["2024-01-01 00:00:00.000001", "A", 1]
    assert made.position == (2, 0, 1)


def test_mariadb_gets_the_comparison_spelled_out_with_the_watermark_bound_as_text() -> None:
    sql, values = statements(MARIADB, ["no", "line", "changed"], ["changed"], ["no", "line"]).page(["t", "A", 1], 100)
    assert sql == (
        "SELECT s.`no`, s.`line`, CAST(s.`changed` AS CHAR)\nFROM `erp`.`lines` AS s\n"
        "WHERE s.`changed` >= CAST(? AS DATETIME(6)) AND (s.`changed` > CAST(? AS DATETIME(6))"
        " OR (s.`changed` = CAST(? AS DATETIME(6)) AND (s.`no` > ? OR (s.`no` = ? AND s.`line` > ?))))\n"
        "ORDER BY s.`changed`, s.`no`, s.`line`\nLIMIT 100"
    )
    assert values == ["t", "t", "t", "A", "A", 1]


def test_mysql_differs_from_mariadb_in_its_timeout_only() -> None:
    mysql, mariadb = DIALECTS["mysql"], DIALECTS["mariadb"]
    assert statements(mysql, ["no"], ["changed"], ["no"]).page(["t", "A"], 9) == (
        statements(mariadb, ["no"], ["changed"], ["no"]).page(["t", "A"], 9)
    )
    limits = session_limits(0.25)
    assert mariadb.session[0].format(**limits) == "SET SESSION max_statement_time = 0.250"
    assert mysql.session[0].format(**limits) == "SET SESSION max_execution_time = 250"
    assert set(mysql.session[1:]) == set(mariadb.session[1:])


@pytest.mark.parametrize(
    ("dialect", "bound", "condition", "values"),
    [
        (
            SQLITE,
            ["t", None],
            's."changed" >= ? AND (s."changed" > ? OR (s."changed" = ? AND s."no" IS NOT NULL))',
            ["t"] * 3,
        ),
        (
            SQLITE,
            ["t", "A"],
            's."changed" >= ? AND (s."changed" > ? OR (s."changed" = ? AND s."no" > ?))',
            ["t", "t", "t", "A"],
        ),
        (
            POSTGRESQL,
            ["t", "A"],
            's."changed" >= CAST(? AS timestamp) AND (s."changed" > CAST(? AS timestamp)'
            ' OR (s."changed" = CAST(? AS timestamp) AND (s."no" > CAST(? AS text) OR s."no" IS NULL)))',
            ["t", "t", "t", "A"],
        ),
        (
            POSTGRESQL,
            ["t", None],
            's."changed" >= CAST(? AS timestamp) AND (s."changed" > CAST(? AS timestamp)'
            ' OR (s."changed" = CAST(? AS timestamp) AND 1 = 0))',
            ["t", "t", "t"],
        ),
    ],
)
def test_a_key_that_may_be_null_is_followed_in_the_order_in_which_the_database_sorts_null(
    dialect: Dialect, bound: list[object], condition: str, values: list[object]
) -> None:
    sql, bound_values = statements(dialect, ["no"], ["changed"], ["no"], nullable=("no",)).page(bound, 5)
    assert f"WHERE {condition}\nORDER" in sql
    assert bound_values == values


def test_several_watermarks_count_as_the_first_that_is_filled() -> None:
    made = statements(POSTGRESQL, ["id", "changed", "made"], ["changed", "made"], ["id"])
    sql, _ = made.page(["t", 1], 5)
    assert sql.startswith(
        'SELECT s."id", CAST(s."changed" AS text), CAST(s."made" AS text),'
        ' CAST(COALESCE(s."changed", s."made") AS text)\n'
    )
    assert 'ORDER BY COALESCE(s."changed", s."made"), s."id"' in sql
    assert (made.payload, made.position) == (3, (3, 0))
    assert made.newest() == (
        'SELECT CAST(MAX(COALESCE(s."changed", s."made")) AS text)\nFROM "erp"."lines" AS s\n'
        'WHERE COALESCE(s."changed", s."made") IS NOT NULL'
    )


def test_the_trusted_condition_stands_on_lines_of_its_own_so_that_a_comment_ends_with_it() -> None:
    sql, _ = statements(SQLITE, ["id"], ["id"], [], where="s.kind = 'A' -- only these").page([1], 5)
    assert "WHERE (\ns.kind = 'A' -- only these\n) AND s.\"id\" > ?\n" in sql


def test_names_are_quoted_so_that_no_name_becomes_sql() -> None:
    catalog = CatalogTable("", 'a"b', False, (CatalogColumn('i"d', "INTEGER", False),))
    column = resolve(SQLITE, catalog.columns[0], "id")
    sql, _ = Statements(SQLITE, catalog, [column], [column], []).page([1], 5)
    assert sql.startswith('SELECT s."i""d"\nFROM "a""b" AS s\nWHERE s."i""d" > ?')


def test_rows_without_a_watermark_are_counted_in_sqlite_with_those_stored_as_another_type() -> None:
    made = statements(SQLITE, ["id"], ["changed"], ["id"])
    assert made.unmarked("2024-01-01").endswith('WHERE (s."changed" IS NULL OR typeof(s."changed") NOT IN (\'text\'))')
    assert made.unmarked(1).endswith("NOT IN ('integer', 'real'))")
    nullable = statements(POSTGRESQL, ["id"], ["changed"], ["id"], nullable=("changed",))
    assert nullable.unmarked("x").endswith('WHERE s."changed" IS NULL')
    assert statements(POSTGRESQL, ["id"], ["changed"], ["id"]).unmarked("x").endswith("WHERE 1 = 0")


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("INTEGER", "integer"),
        ("bigint(20)", "integer"),
        ("BOOLEAN", "boolean"),
        ("DECIMAL(12,4)", "decimal"),
        ("numeric", "decimal"),
        ("DATETIME", "datetime"),
        ("timestamp", "datetime"),
        ("date", "date"),
        ("time", "time"),
        ("varchar(20)", "text"),
        ("BLOB", "binary"),
        ("double precision", "float"),
        ("", "text"),
        ("whatever", "text"),
    ],
)
def test_a_declared_type_of_sqlite_has_one_kind(declared: str, kind: str) -> None:
    assert sqlite_kind(declared) == kind


@pytest.mark.parametrize(
    ("declared", "kind", "read"),
    [
        ("bigint", "integer", "s.`c`"),
        ("decimal", "decimal", "CAST(s.`c` AS CHAR)"),
        ("DATE", "date", "CAST(s.`c` AS CHAR)"),
        ("datetime", "datetime", "CAST(s.`c` AS CHAR)"),
        ("timestamp", "datetimetz", "CONCAT(CAST(s.`c` AS CHAR), '+00:00')"),
        ("longblob", "binary", "s.`c`"),
        ("json", "text", "CAST(s.`c` AS CHAR)"),
        ("bit", "integer", "CAST(s.`c` AS UNSIGNED)"),
    ],
)
def test_mariadb_types_that_its_driver_bends_are_read_as_text(declared: str, kind: str, read: str) -> None:
    column = resolve(MARIADB, CatalogColumn("c", declared, True), "c")
    assert (column.kind, column.read) == (kind, read)
