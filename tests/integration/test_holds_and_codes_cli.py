"""`crossdock holds` and `crossdock codes`: what is seen, what is done, and what it leads to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.cli import root
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from support.estate import TREE as ESTATE
from support.pipeline import Box

TREE = {
    **ESTATE,
    "lists/units.csv": "from,to\nST,H87\n",
    "mappings/wms.yaml": """mapping: wms
document: Shipment
fields:
  number: NO
  lines: {sku: ITEM, quantity: {from: QTY, uom: {from: UNIT, codes: units}}}
rules:
  - known: {field: lines.sku, document: Product}
""",
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    box.apply(TREE)
    yield box
    box.close()


@pytest.fixture
def run(box: Box) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        found = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(box.data.root), "COLUMNS": "200"})
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def answer(run: Callable[..., Result], *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def work(box: Box) -> None:
    worker = Normalizer(box.data, Runtime.from_tree)
    while worker.step():
        pass
    worker.close()


def send(box: Box, *lines: str) -> None:
    origin = Origin(kind="file", name="SHP1.csv", unit=b"u" * 16, first_record=0, first_line=2)
    header = BatchHeader(format="csv", records=len(lines), prefix=b"NO;ITEM;QTY;UNIT\n", origin=origin, closes=True)
    sealed = Sealer().seal(header, "".join(f"{line}\n" for line in lines).encode())
    box.store(sealed.data, sealed.crc32, len(lines))
    work(box)


def test_a_held_document_is_listed_shown_released_and_traced(box: Box, run: Callable[..., Result]) -> None:
    assert "No rule holds a document." in run("holds", "list").stdout
    send(box, "S1;A;5;ST", "S2;B;5;ST", "S1;A;6;ST")
    found = answer(run, "holds", "list")["holds"]
    assert [(h["seq"], h["key"], h["later"], h["waits"]) for h in found] == [
        (1, "S1", 1, [["Product", "A"]]),
        (2, "S2", 0, [["Product", "B"]]),
        (3, "S1", 0, [["Product", "A"]]),
    ]
    assert "sku of line 1 is 'A', no Product A is known" in run("holds", "list").stdout
    shown = run("holds", "show", "1").stdout
    assert "waits for" in shown
    assert "Product A" in shown
    assert "SHP1.csv line 2" in shown
    assert "it goes on by itself when what it waits for has come" in shown
    assert "3 documents held by a rule: crossdock holds list" in run("status").stdout
    assert "held by a rule, not sent to files" in run("trace", "S2").stdout
    assert "Shipment S1 goes on" in run("holds", "release", "1", "--note", "a new item").stdout
    run("holds", "discard", "2", "--note", "a test")
    states = {h["seq"]: (h["state"], h["note"]) for h in answer(run, "holds", "list", "--all")["holds"]}
    assert states == {1: ("released", "a new item"), 2: ("discarded", "a test"), 3: ("open", "")}
    refused = run("holds", "release", "2", "--note", "no", code=1)
    assert "event 2 is not held any more: discarded by" in refused.output + refused.stderr
    traced = run("trace", "S1").stdout
    assert "by a rule · event 1" in traced
    assert "released by local:" in traced
    assert "a new item" in traced
    (line,) = answer(run, "account")["sources"]
    assert (line["pending"], line["held"], line["discarded"], line["balanced"]) == (1, 1, 1, True)


def test_an_unknown_code_is_said_once_and_everything_that_waited_goes_on(box: Box, run: Callable[..., Result]) -> None:
    assert "No code waits for a meaning." in run("codes", "list").stdout
    send(box, "S1;A;5;PCE", "S2;A;5;PCE", "S3;A;5;JUNK")
    (first, second) = answer(run, "codes", "list")["codes"]
    assert (first["list"], first["value"], first["records"]) == ("units", "PCE", 2)
    assert second["value"] == "JUNK"
    assert "crossdock codes set units PCE=MEANING" in run("codes", "list").stdout
    assert "crossdock codes set units PCE=MEANING" in run("dead", "show", str(first["letter"])).stdout
    assert "2 codes without a meaning: crossdock codes list" in run("status").stdout
    told = run("codes", "set", "units", "PCE=H87", "--note", "by the vendor").stdout
    assert "1 meaning filled in; 2 dead letters mapped again" in told
    assert "1 dead letter will be discarded" in run("codes", "ignore", "units", "JUNK", "--note", "tests").stdout
    assert [entry["said"] for entry in answer(run, "codes", "list")["codes"]] == ["H87", "ignored"]
    work(box)
    assert answer(run, "codes", "list")["codes"] == []
    assert [h["key"] for h in answer(run, "holds", "list")["holds"]] == ["S1", "S2"]
    assert run("codes", "export", "units").stdout == "# for lists/units.csv\nPCE,H87\n"


def test_a_retry_over_a_newer_version_needs_force(box: Box, run: Callable[..., Result]) -> None:
    send(box, "S1;A;many;ST", "S1;A;6;ST")
    refused = run("dead", "retry", "1", "--set", "QTY=5", code=1)
    assert "has a later version of the same source" in refused.output + refused.stderr
    run("dead", "retry", "1", "--set", "QTY=5", "--force")
    assert [letter["state"] for letter in answer(run, "dead", "list", "--all")["dead_letters"]] == ["retried"]
