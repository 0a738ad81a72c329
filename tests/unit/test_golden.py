"""Golden files: what real-looking input, broken records among it, becomes. One folder a case in tests/golden.

After a wanted change, `CROSSDOCK_GOLDEN=write pytest tests/unit/test_golden.py` writes what is found; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from support.mapping import Known, engine, file_batches, run, summary, table_batches

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.yaml"))


def outcome(name: str, records: int) -> dict[str, Any]:
    folder = GOLDEN / name
    case = YAML(typ="safe").load(folder / "case.yaml")
    data = (folder / case["input"]).read_bytes()
    if case["format"]["kind"] == "rows":  # written down as JSON: columns, and rows under them
        table = msgspec.json.decode(data)
        batches = table_batches(
            table["columns"], table["rows"], records=records, key=table["key"], nested=table.get("nested")
        )
    else:
        batches = file_batches(case["format"], data, records=records, name=case["input"])
    return summary(run(engine(case["format"], case["mapping"]), batches, Known(*case.get("known", ()))))


@pytest.mark.parametrize("name", CASES)
def test_the_input_becomes_what_is_expected_of_it(name: str) -> None:
    expected = GOLDEN / name / "expected.json"
    found = outcome(name, records=5000)
    if os.environ.get("CROSSDOCK_GOLDEN") == "write":
        expected.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    assert found == msgspec.json.decode(expected.read_bytes())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("records", [1, 3])
def test_smaller_batches_give_the_same(name: str, records: int) -> None:
    assert outcome(name, records) == msgspec.json.decode((GOLDEN / name / "expected.json").read_bytes())


def test_there_is_a_case_for_each_document_and_each_file_format() -> None:
    cases = [YAML(typ="safe").load(GOLDEN / name / "case.yaml") for name in CASES]
    assert {case["mapping"]["document"] for case in cases} == {"Shipment", "StockLevel", "Order", "Product", "Invoice"}
    assert {case["format"]["kind"] for case in cases} == {"csv", "jsonl", "fixed", "rows"}
