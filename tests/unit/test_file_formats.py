"""What documents look like in files, and which do not fit."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydantic import TypeAdapter

from crossdock.errors import Rejected
from crossdock_controller.sinks.base import Outgoing
from crossdock_controller.sinks.file_formats import FileFormat, Writer, rendered, writer

ORDER = {
    "number": "4711", "customer": {"id": "C1", "name": "Müller & Söhne"}, "open": True,
    "lines": [{"sku": "A;1", "quantity": {"value": "2.50"}}, {"sku": "B", "quantity": {"value": "10"}}],
}  # fmt: skip


def form(**settings: Any) -> Writer:
    return writer(TypeAdapter[Any](FileFormat).validate_python(settings))


def sent(body: Any, key: str = "4711", sequence: int = 1) -> Outgoing:
    return Outgoing(sequence.to_bytes(16, "big"), "SalesOrder", key, json.dumps(body).encode(), sequence, 1)


LINES = {"NO": "^number", "ITEM": "sku", "QTY": "quantity.value", "WHO": "^customer.name", "NONE": "missing"}


def test_a_row_for_each_line_with_values_of_the_document_around_it() -> None:
    made = form(kind="csv", columns=LINES, each="lines", delimiter=";", encoding="cp1252", newline="crlf")
    assert made.head == b"NO;ITEM;QTY;WHO;NONE\r\n"
    expected = '4711;"A;1";2.50;Müller & Söhne;\r\n4711;B;10;Müller & Söhne;\r\n'
    assert made.one(sent(ORDER)) == expected.encode("cp1252")
    assert made.one(sent({"number": "1"})) == b""


def test_fixed_columns_are_filled_and_never_cut() -> None:
    columns = [{"from": "number", "width": 8, "align": "right", "pad": "0"}, {"from": "customer.name", "width": 15},
               {"from": "open", "width": 5}]  # fmt: skip
    made = form(kind="fixed", columns=columns, encoding="cp850")
    assert made.one(sent(ORDER)) == "00004711Müller & Söhne true \n".encode("cp850")
    with pytest.raises(Rejected, match="has 16 characters, the column 15"):
        made.one(sent({**ORDER, "customer": {"name": "x" * 16}}))
    with pytest.raises(Rejected, match="control character"):
        made.one(sent({**ORDER, "customer": {"name": "a\nb"}}))
    with pytest.raises(Rejected, match="cannot be written in cp850"):
        made.one(sent({**ORDER, "customer": {"name": "日本"}}))
    with pytest.raises(Rejected, match="several bytes"):
        form(kind="fixed", columns=columns).one(sent(ORDER))


def test_xml_is_escaped_and_whole() -> None:
    made = form(kind="xml", root="Orders", element="Order", item="Line")
    document = etree.fromstring(made.head + made.one(sent(ORDER)) + made.one(sent({"number": "<2>"})) + made.tail)
    assert document.findtext("Order/customer/name") == "Müller & Söhne"
    assert [e.text for e in document.findall("Order/lines/Line/sku")] == ["A;1", "B"]
    assert document.findall("Order")[1].findtext("number") == "<2>"
    for hostile in ({"a b": "1"}, {"text": "\x00"}, {"<script>": "1"}, {"": "1"}):
        with pytest.raises(Rejected):
            made.one(sent(hostile))


def test_what_does_not_fit_holds_only_its_own_later_versions() -> None:
    made = form(kind="csv", columns={"T": "text"}, encoding="cp1252")
    run = [
        sent({"text": "a"}, "A", 1),
        sent({"text": "日"}, "B", 2),
        sent({"text": "b"}, "B", 3),
        sent({"text": "c"}, "C", 4),
    ]
    parts, verdicts = rendered(made, run)
    assert [delivery.key for delivery, _ in parts] == ["A", "C"]
    assert [(v.outcome, v.code) for v in verdicts.values()] == [("rejected", "not_encodable"), ("retry", "held")]


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.none() | st.booleans() | st.integers(), max_size=5)
)
def test_any_values_come_back_from_a_delimited_file_or_are_rejected(values: dict[str, Any]) -> None:
    made = form(kind="csv", columns={str(i): f"v.{i}" for i in range(5)})
    held = {str(i): value for i, value in enumerate(values.values())}
    text = (made.head + made.one(sent({"v": held}))).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    said = [{True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v) if v is not None else ""
            for v in held.values()]  # fmt: skip
    assert rows[1][: len(said)] == said


@given(st.recursive(st.none() | st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["a", "b-1", "ü", "x y", ""]), inner, max_size=3), max_leaves=10))  # fmt: skip
def test_any_document_is_well_formed_xml_or_rejected(value: Any) -> None:
    made = form(kind="xml")
    try:
        body = made.one(sent({"v": value}))
    except Rejected:
        return
    etree.fromstring(made.head + body + made.tail)
