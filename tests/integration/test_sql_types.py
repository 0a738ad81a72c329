"""What is awkward in a cell, on each database: it travels as it is, or its row is set aside by name; never bent, never
lost without a word, never more in memory than the limit."""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError
from crossdock_agent.sql.collation import collated
from support.mariadb import Mariadb
from support.memory import allocated_at_most
from support.postgres import Postgres
from support.table_site import Server, Sqlite, TableSite, rows_of, site_of

BY_ID = {"table": "t", "mode": "incrementing", "column": "id"}
LONG = {  # a text and a binary type without a limit
    "sqlite": ("CLOB", "BLOB"),
    "postgresql": ("text", "bytea"),
    "mariadb": ("LONGTEXT", "LONGBLOB"),
}


def name_of(database: Sqlite | Server) -> str:
    return "sqlite" if isinstance(database, Sqlite) else database.dialect


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sqlite | Server]:
    fixture = {"postgresql": "postgres", "mariadb": "mariadb"}.get(request.param)
    opened = Sqlite(tmp_path / "erp.db") if fixture is None else Server(request.getfixturevalue(fixture))
    yield opened
    opened.close()


def column(site: TableSite, index: int = 1) -> list[Any]:
    return [row[index] for row in site.poll()]


# --- numbers


@pytest.mark.parametrize(
    "values",
    [
        ["0.000000000000000000000000000001", "-0.100000000000000000000000000000"],
        ["12345678901234567890123456789012345.000000000000000000000000000000"],
        ["-99999999999999999999999999999999999.999999999999999999999999999999"],
    ],
)
def test_a_decimal_keeps_every_digit_and_its_trailing_zeros(database: Sqlite | Server, values: list[str]) -> None:
    declared = "TEXT" if isinstance(database, Sqlite) else "DECIMAL(65,30)"
    database.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, n {declared})")
    for number, value in enumerate(values):
        database.execute(f"INSERT INTO t VALUES ({number}, '{value}')")
    with site_of(database, **BY_ID) as site:
        assert column(site) == values


def test_a_float_of_double_precision_is_the_same_bits(database: Sqlite | Server) -> None:
    values = [0.1, 1e-300, 1.7976931348623157e308, 5e-324, 2.0**53 + 2, 1 / 3, -123456.78901234567]
    database.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, f {'REAL' if isinstance(database, Sqlite) else 'DOUBLE PRECISION'})"
    )
    for number, value in enumerate(values):
        database.execute(f"INSERT INTO t VALUES ({number}, {value!r})")
    with site_of(database, **BY_ID) as site:
        assert [struct.pack("d", f) for f in column(site)] == [struct.pack("d", f) for f in values]


# --- dates


def test_sentinel_dates_are_dates_like_any_other(database: Sqlite | Server) -> None:
    values = ["0001-01-01", "1753-01-01", "1900-01-01", "2024-02-29", "9999-12-31"]
    if name_of(database) == "postgresql":
        values += ["infinity", "0044-03-15 BC"]
    if name_of(database) == "mariadb":
        database.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        values += ["0000-00-00", "2024-00-00", "2023-02-30"]
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, d DATE)")
    for number, value in enumerate(values):
        database.execute(f"INSERT INTO t VALUES ({number}, '{value}')")
    with site_of(database, **BY_ID) as site:
        assert column(site) == values


@pytest.mark.parametrize("last", ["9999-12-31 23:59:59", "0001-01-01 00:00:00"])
def test_a_sentinel_as_the_newest_or_oldest_time_hides_no_row(database: Sqlite | Server, last: str) -> None:
    kind = database.timestamp
    database.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind})")
    database.execute(f"INSERT INTO t VALUES (1, '{last}'), (2, '2024-06-01 10:00:00')")
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "clock": "utc"}
    with site_of(database, **settings) as site:
        assert sorted(row[0] for row in site.poll()) == [1, 2]
        for number in range(3, 7):
            database.execute(f"INSERT INTO t VALUES ({number}, {database.now(site)})")
            assert [row[0] for row in site.cycle(passes=20)] == [number]
        assert site.cycle() == []


# --- text


def test_padding_empty_text_and_null_stay_three_different_things(database: Sqlite | Server) -> None:
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR(20))")
    for number, value in enumerate(["", None, " ", "ab ", " ab", "000123", "NULL", "a'b\"c\\d", "\r\n\t", "1E5"]):
        database.execute("INSERT INTO t VALUES (?, ?)", [number, value])
    with site_of(database, **BY_ID) as site:
        assert column(site) == ["", None, " ", "ab ", " ab", "000123", "NULL", "a'b\"c\\d", "\r\n\t", "1E5"]


def test_a_padded_key_is_followed_from_page_to_page(database: Sqlite | Server) -> None:
    """CHAR is padded by PostgreSQL and stripped by MariaDB; each is compared the way it sorts."""
    database.execute(f"CREATE TABLE t (no CHAR(8), at {database.timestamp}, v VARCHAR(9))")
    values = ["A", "A1", "A2", "B", "b2", "C", "Ä", "ß9", "s9", "x y", "0001", "001", "b", "É"]
    for value in values:
        database.execute(f"INSERT INTO t VALUES ('{value}', '2024-05-01 08:00:00', '{value}')")
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["no"], "clock": "utc", "page_rows": 3}
    with site_of(database, **settings) as site:
        rows = site.poll(crash_after=1) + site.poll()
        assert sorted(row[2] for row in rows) == sorted(values)
        raw = {row[2]: row[0] for row in rows}
        assert raw["A1"] == ("A1      " if name_of(database) == "postgresql" else "A1")
        assert site.cycle() == []


COLLATIONS = (
    "general_ci", "unicode_ci", "unicode_520_ci", "uca1400_ai_ci", "swedish_ci", "danish_ci", "turkish_ci",
    "german2_ci", "croatian_ci", "spanish2_ci", "bin",
)  # fmt: skip


@pytest.mark.parametrize("collation", COLLATIONS)
def test_letters_that_a_collation_takes_for_equal_have_one_form(mariadb: Mariadb, collation: str) -> None:
    """The server gives the weights of Latin, Greek, Cyrillic and punctuation; equal weights, equal form."""
    connection = mariadb.connect()
    connection.execute("CREATE TABLE letters (n INT PRIMARY KEY, c VARCHAR(4) CHARACTER SET utf8mb4)")
    blocks = [range(0x20, 0x250), range(0x370, 0x530), range(0x1E00, 0x1F00), range(0x2000, 0x2070), [0x1F4E6, 0x1F4E7]]
    points = [p for block in blocks for p in block if unicodedata.category(chr(p)) != "Cn"]
    values = ",".join(f"({p}, CONVERT(x'{chr(p).encode().hex()}' USING utf8mb4))" for p in points)
    connection.execute(f"INSERT INTO letters VALUES {values}")
    weights: dict[str, list[str]] = {}
    for n, weight in connection.execute(f"SELECT n, HEX(WEIGHT_STRING(c COLLATE utf8mb4_{collation})) FROM letters"):
        weights.setdefault(weight, []).append(chr(n))
    connection.close()
    assert len(weights) > 400
    assert [letters for letters in weights.values() if len({collated(letter) for letter in letters}) > 1] == []


def test_pairs_that_some_country_takes_for_one_letter_have_one_form() -> None:
    pairs = [("Straße", "STRASSE"), ("Müller", "MUELLER "), ("Århus", "aarhus"), ("a\u0308", "\u00e4"), ("A\0", "a")]
    assert all(collated(one) == collated(other) for one, other in pairs)
    assert collated(("A-1", 7)) != collated(("A-2", 7))
    assert collated(7) == 7


def test_a_key_of_hundreds_of_characters_is_bound_as_it_is(database: Sqlite | Server) -> None:
    database.execute(f"CREATE TABLE t (no VARCHAR(600), at {database.timestamp})")
    keys = [f"{'ü' * 400}{n:03}" for n in range(40)]
    database.executemany("INSERT INTO t VALUES (?, '2024-05-01 08:00:00')", [(key,) for key in keys])
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["no"], "clock": "utc", "page_rows": 7}
    with site_of(database, **settings) as site:
        assert [row[0] for row in site.poll()] == keys


@pytest.mark.parametrize(
    "value", ["a\0b", "\0", "\u2028\ufeff\u200b", "\U0001f4e6\U0001f469\u200d\U0001f469", "e\u0301\u00e9"]
)
def test_odd_characters_are_none_of_our_business(database: Sqlite | Server, value: str) -> None:
    if "\0" in value and name_of(database) == "postgresql":
        value = value.replace("\0", "\x01")  # which has no NUL in its texts
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR(40))")
    if name_of(database) == "mariadb":
        database.execute(f"INSERT INTO t VALUES (1, x'{value.encode().hex()}')")
    else:
        database.execute("INSERT INTO t VALUES (1, ?)", [value])
    with site_of(database, **BY_ID) as site:
        assert column(site) == [value]


def test_binary_keeps_every_byte_and_stays_apart_from_null(database: Sqlite | Server) -> None:
    database.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, y {LONG[name_of(database)][1]})")
    for number, value in enumerate([bytes(range(256)), b"", None, b"\0" * 9]):
        database.execute("INSERT INTO t VALUES (?, ?)", [number, value])
    with site_of(database, **BY_ID) as site:
        assert column(site) == [bytes(range(256)), b"", None, b"\0" * 9]


def test_texts_of_no_encoding_are_refused_with_a_way_to_read_them(postgres: Postgres) -> None:
    """SQL_ASCII: bytes nobody checked, as in many old databases."""
    postgres.execute(
        f"CREATE DATABASE \"{postgres.database}x\" ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    odd = Postgres(postgres.port, postgres.binaries, postgres.directory, postgres.driver, f"{postgres.database}x")
    try:
        odd.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        odd.execute("INSERT INTO t VALUES (1, 'fine'), (2, convert_from('\\x4772fcdf65', 'SQL_ASCII')), (3, 'fine')")
        site = TableSite(connection={"odbc": odd.odbc(), "dialect": "postgresql"}, **BY_ID)
        with pytest.raises(ConfigError, match="table t: a text is not in the encoding") as caught:
            site.poll()
        assert "convert_to" in caught.value.hint
        query = "SELECT id, convert_to(v, 'SQL_ASCII') AS v FROM t"
        settings = {"query": query, "mode": "incrementing", "column": "id"}
        site = TableSite("sql_query", connection={"odbc": odd.odbc(), "dialect": "postgresql"}, **settings)
        assert site.poll() == [[1, b"fine"], [2, b"Gr\xfc\xdfe"], [3, b"fine"]]
        site.source.close()
    finally:
        postgres.execute(f'DROP DATABASE "{odd.database}" WITH (FORCE)')


# --- large values


def test_a_value_over_the_limit_sets_its_row_aside_by_name_and_the_rest_goes_on(database: Sqlite | Server) -> None:
    text, binary = LONG[name_of(database)]
    database.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, note {text}, scan {binary})")
    database.execute("INSERT INTO t VALUES (1, ?, ?)", ["ü" * 500, b"x" * 1000])
    database.execute("INSERT INTO t VALUES (2, ?, ?)", ["ü" * 501, b"x"])
    database.execute("INSERT INTO t VALUES (3, ?, ?)", ["x", b"\xff" * 5000])
    database.execute("INSERT INTO t VALUES (4, ?, ?)", ["last", b""])
    with site_of(database, **BY_ID, max_lob_bytes=1000) as site:
        assert [row[0] for row in site.poll()] == [1, 4]
        rejects = [reject for draft in site.committed for reject in draft.header.rejects]
        assert [(r.code, r.reason) for r in rejects] == [
            ("too_long", "row 2: column note has more than 1000 bytes"),
            ("too_long", "row 3: column scan has more than 1000 bytes"),
        ]
        assert rejects[1].bytes < 1100  # the rest never left the database
        assert rejects[0].sample
        assert site.cycle(passes=5) == []


def test_a_table_of_images_is_read_in_little_memory(database: Sqlite | Server) -> None:
    """60 MB in 60 rows, of which the first pages would hold 50."""
    text, binary = LONG[name_of(database)]
    database.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, note {text}, scan {binary})")
    fill = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60)"
        " INSERT INTO t SELECT i, 'x', randomblob(1048576) FROM n",
        "postgresql": "INSERT INTO t SELECT i, 'x', decode(repeat(md5(i::text), 65536), 'hex')"
        " FROM generate_series(1, 60) i",
        "mariadb": "INSERT INTO t SELECT seq, 'x', REPEAT(UNHEX(MD5(seq)), 65536) FROM seq_1_to_60",
    }
    database.execute(fill[name_of(database)])
    with site_of(database, **BY_ID) as site, allocated_at_most(80 * 1024 * 1024):
        seen = [len(row[2]) for draft in site.reading() for row in rows_of(draft)]
    assert seen == [1024 * 1024] * 60


def test_a_unit_larger_than_a_page_in_memory_still_comes_whole(database: Sqlite | Server) -> None:
    _, binary = LONG[name_of(database)]
    database.execute(f"CREATE TABLE t (id INTEGER, line INTEGER, at {database.timestamp}, scan {binary})")
    for line in range(1, 13):
        database.execute("INSERT INTO t VALUES (1, ?, '2024-05-01 08:00:00', ?)", [line, b"x" * 2_000_000])
    database.execute("INSERT INTO t VALUES (2, 1, '2024-05-01 08:00:00', ?)", [b"x"])
    settings = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id", "line"], "clock": "utc"}
    with site_of(database, **settings) as site:
        assert [(row[0], row[1]) for row in site.poll()] == [*((1, line) for line in range(1, 13)), (2, 1)]


def test_the_less_common_types_of_postgresql_are_text_as_its_own_tools_show_them(postgres: Postgres) -> None:
    postgres.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE t (id int PRIMARY KEY, e mood, b bit(4), vb varbit, tt timetz, ip inet, r int4range, p point,"
        " a numeric(6,2)[], x xml, ts tsvector, m money, iv interval)",
        "INSERT INTO t VALUES (1, 'ok', B'1010', B'10', '12:00:00.5+02', '10.0.0.1/8', '[1,5)', '(1.5,2)',"
        " '{1.10,NULL}', '<a>1</a>', 'fat cat', '-1234.50', '-1 mon 3 days 04:05:06.7')",
        "INSERT INTO t (id) VALUES (2)",
    )
    site = TableSite(connection={"odbc": postgres.odbc(), "dialect": "postgresql"}, **BY_ID)
    full, empty = site.poll()
    assert full == [
        1, "ok", "1010", "10", "12:00:00.5+02", "10.0.0.1/8", "[1,5)", "(1.5,2)", "{1.10,NULL}", "<a>1</a>",
        "'cat' 'fat'", "-1234.50", "-1 mons +3 days 04:05:06.7",
    ]  # fmt: skip
    assert empty == [2, *[None] * 12]
    site.source.close()
