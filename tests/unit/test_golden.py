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

from crossdock_controller.documents.base import entities
from crossdock_controller.formats.base import create, kinds
from support.mapping import Batch, Known, engine, file_batches, run, summary, table_batches

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
    if "mapping" not in case:
        return decoded(case["format"], batches)
    return summary(run(engine(case["format"], case["mapping"]), batches, Known(*case.get("known", ()))))


def decoded(settings: dict[str, Any], batches: list[Batch]) -> dict[str, Any]:
    """What each record is read as, by its place in the file: for what no mapping is shown with."""
    form = create(kinds()[settings["kind"]].settings.model_validate(settings))
    records: dict[str, Any] = {}
    header_faults: set[str] = set()
    for header, payload, _ in batches:
        found = form.decode(header, payload, ())
        first = header.origin.first_record
        assert found.count == header.records
        header_faults |= {": ".join(found.header_fault)} if found.header_fault else set()
        entries: dict[int, Any] = {first + position: found.fields(i) for i, position in enumerate(found.positions)}
        entries |= {first + position: "blank" for position in found.blanks}
        entries |= {first + fault.position: [fault.code, fault.reason] for fault in found.faults}
        entries |= {reject.record: ["rejected", reject.code, reject.reason, reject.line] for reject in header.rejects}
        records |= {str(ordinal): msgspec.to_builtins(entry) for ordinal, entry in sorted(entries.items())}
    return {"header_faults": sorted(header_faults), "records": records}


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
    assert len(cases) >= 40
    assert {case["mapping"]["document"] for case in cases if "mapping" in case} == set(entities())
    assert {case["format"]["kind"] for case in cases} == set(kinds())
