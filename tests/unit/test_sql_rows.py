"""The quick way from a document to a row gives what the plain way gives, or leaves the document to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import Outgoing
from crossdock_controller.sinks.sql_databases import PostgresDatabase, SqliteDatabase
from crossdock_controller.sinks.sql_quick import quick_reader
from crossdock_controller.sinks.sql_rows import _ENVELOPE, Table
from crossdock_controller.sinks.sql_statements import Style, TableMapping, columns_in_order

PARTS = ["a", "b", "not an identifier", "f0", "class"]
STYLES = [SqliteDatabase.style, PostgresDatabase.style]

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(PARTS), inner))


values = st.recursive(leaves, _deeper, max_leaves=8)
documents = st.dictionaries(st.sampled_from(PARTS), values)
paths = st.one_of(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(".".join), st.sampled_from(sorted(_ENVELOPE))
)


@st.composite
def mappings(draw: st.DrawFn) -> TableMapping:
    columns = {f"c{i}": path for i, path in enumerate(draw(st.lists(paths, min_size=1, max_size=6)))}
    key = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=2, unique=True))
    defaults = draw(
        st.dictionaries(st.sampled_from(sorted(columns)), st.one_of(st.text(max_size=3), st.integers()), max_size=2)
    )
    return TableMapping(table="t", key=key, columns=columns, defaults=defaults)


def plain_row(table: Table, delivery: Outgoing) -> tuple[object, ...] | None:
    table._quick = None
    try:
        return table.entry(0, delivery).row
    except Rejected:
        return None


@pytest.mark.parametrize("style", STYLES, ids=["sqlite", "postgresql"])
@settings(suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault of the strategy
@given(mapping=mappings(), body=documents)
def test_quick_and_plain_rows_are_the_same(style: Style, mapping: TableMapping, body: dict[str, Any]) -> None:
    delivery = Outgoing(b"i" * 16, "Thing", "key", json.dumps(body).encode(), 7, 1)
    reader = quick_reader(mapping, style, _ENVELOPE)
    quick = reader(delivery) if reader is not None else None
    plain = plain_row(Table(mapping, style), delivery)
    if quick is not None and plain is not None:
        assert [(type(v), v) for v in quick] == [(type(v), v) for v in plain]
    if quick is not None and plain is None:
        assert None in quick[: len(mapping.key)]  # both ways find the key missing


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a": "\xff"}', b'{"a": "x"} trailing', b'{"a": 1e999}'])
def test_what_is_no_document_is_left_to_the_plain_way(body: bytes) -> None:
    mapping = TableMapping(table="t", key=["k"], columns={"k": "a"})
    reader = quick_reader(mapping, SqliteDatabase.style, _ENVELOPE)
    assert reader is not None
    assert reader(Outgoing(b"i" * 16, "Thing", "key", body, 7, 1)) is None


def test_ordinary_documents_take_the_quick_way() -> None:
    columns = {"n": "number", "q": "on_hand.value", "u": "on_hand.uom", "o": "extensions.acme.owner", "s": "$sequence"}
    reader = quick_reader(TableMapping(table="t", key=["n"], columns=columns), SqliteDatabase.style, _ENVELOPE)
    assert reader is not None
    body = b'{"number": "S1", "more": [1], "on_hand": {"value": "1.50"}}'
    assert reader(Outgoing(b"i" * 16, "Thing", "S1", body, 7, 1)) == ("S1", "1.50", None, None, 7)


def test_the_key_stands_first_and_its_envelope_columns_before_the_others() -> None:
    columns = {"a": "x", "s": "$sequence", "b": "y", "k": "$key", "d": "$document"}
    mapping = TableMapping(table="t", key=["b", "k"], columns=columns)
    assert columns_in_order(mapping) == ["k", "b", "a", "s", "d"]
