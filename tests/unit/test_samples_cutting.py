"""A sample is cut into the records that the agent's own framing finds, for every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from crossdock.errors import Refused
from crossdock_controller.formats.base import create, kinds
from crossdock_controller.samples import cutting
from support.mapping import Batch, file_batches

GOLDEN = Path(__file__).parents[1] / "golden"
# What is torn or no interchange at all is cut otherwise: as one reject that says why.
TORN = {"orders_x12", "orders_xml_doctype", "products_csv_bom", "products_xml_latin1",
        "stock_json_at_a_path", "orders_edifact"}  # fmt: skip
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.yaml"))
KINDS: dict[str, dict[str, Any]] = {
    "csv": {"kind": "csv", "delimiter": ";"},
    "csv16": {"kind": "csv", "encoding": "utf-16-le"},
    "bare": {"kind": "csv", "header": False, "columns": ["A", "B"]},
    "jsonl": {"kind": "jsonl"},
    "lines": {"kind": "lines", "header_lines": 1},
    "fixed": {"kind": "fixed", "fields": [{"name": "A", "start": 1, "length": 2}]},
    "cells": {"kind": "fixed", "newline": False, "record_bytes": 3, "fields": [{"name": "A", "start": 1, "length": 1}]},
    "rdw": {"kind": "fixed", "newline": False, "rdw": True, "fields": [{"name": "A", "start": 1, "length": 2}]},
    "json": {"kind": "json", "path": "a.b"},
    "xml": {"kind": "xml", "element": "A"},
    "x12": {"kind": "x12"},
    "edifact": {"kind": "edifact"},
    "binary": {"kind": "binary"},
}  # fmt: skip


def typed(form: dict[str, Any]) -> Any:
    return kinds()[form["kind"]].settings.model_validate(form)


def told(form: dict[str, Any], batches: list[Batch]) -> list[Any]:
    """What is in each record, and where it stands."""
    made = create(typed(form))
    found: list[Any] = []
    for header, payload, _ in batches:
        decoded = made.decode(header, payload, ())
        assert decoded.count == header.records
        first = header.origin.first_record
        found += zip((first + p for p in decoded.positions), decoded.lines, made.contents(decoded), strict=True)
        found += [(first + fault.position, fault.line, fault.code) for fault in decoded.faults]
        found += [(reject.record, reject.code) for reject in header.rejects]
    return sorted(found, key=lambda entry: entry[0])


@pytest.mark.parametrize("name", CASES)
def test_the_golden_files_are_cut_as_the_agent_cuts_them(name: str) -> None:
    case = YAML(typ="safe").load(GOLDEN / name / "case.yaml")
    if case["format"]["kind"] == "rows":
        return
    data = (GOLDEN / name / case["input"]).read_bytes()
    batches, whole = cutting.batches(typed(case["format"]), data, name="in", limit=10_000)
    assert whole
    sent = file_batches(case["format"], data)
    found, expected = told(case["format"], batches), told(case["format"], sent)
    if name in TORN:
        assert found != []
    elif any(header.rejects for header, _, _ in sent):  # the agent saves more of what is torn, never something else
        assert sound(found)
        assert set(sound(found)) <= set(sound(expected))
    else:
        assert found == expected


def sound(records: list[Any]) -> list[Any]:
    return [entry for entry in records if isinstance(entry[-1], bytes)]


def test_only_the_first_records_are_taken_and_it_is_said() -> None:
    form = {"kind": "csv"}
    data = b"A,B\n" + b"".join(b"%d,x\n" % i for i in range(20))
    batches, whole = cutting.batches(typed(form), data, name="in", limit=5)
    assert ([header.records for header, _, _ in batches], whole) == ([5], False)
    batches, whole = cutting.batches(typed(form), data, name="in", limit=20)
    assert ([header.records for header, _, _ in batches], whole) == ([20], True)


def test_a_record_that_goes_on_behind_what_was_read_is_left_out() -> None:
    batches, whole = cutting.batches(typed({"kind": "jsonl"}), b'{"a":1}\n{"a":', name="in", limit=9, more=True)
    assert ([payload for _, payload, _ in batches], whole) == ([b'{"a":1}\n'], False)
    with pytest.raises(Refused, match="too large"):
        cutting.batches(typed({"kind": "json"}), b"[", name="in", limit=9, more=True)


_CRUMBS = [b"A;B\n", b"1;2\n", b'"', b"\r\n", b"{}", b"[", b"]", b'{"a":{"b":[', b"<A>", b"</A>", b"<!DOCTYPE x [",
           b"\xff", b"\x00", b"ISA*", b"~", b"IEA*", b"UNB+1'", b"UNZ+1'", b"\x00\x06ab",
           b"\xef\xbb\xbf", b"<?xml"]  # fmt: skip


@pytest.mark.parametrize("name", sorted(KINDS))
@settings(max_examples=60, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(_CRUMBS), max_size=20).map(b"".join)))
def test_no_bytes_make_an_exception_and_every_record_is_found_again(name: str, data: bytes) -> None:
    made = create(typed(KINDS[name]))
    for limit in (1, 50):
        for header, payload, _ in cutting.batches(typed(KINDS[name]), data, name="in", limit=limit)[0]:
            assert header.records <= limit
            made.decode(header, payload, ())
