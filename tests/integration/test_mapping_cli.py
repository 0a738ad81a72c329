"""`crossdock mapping`: try, test, diff and replay, as a person and as a program asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crossdock_controller.cli import root
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from support.estate import TREE, Estate

TEST = """mapping: wms
input: |
  SHIPMENT_NO;ITEM;QTY
  U1;A;1,5
expected: {documents: [{fields: {number: U1}}]}
"""


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


def written(directory: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return directory


def run(estate: Estate, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["mapping", *arguments, "--data", str(estate.data.root)])


def test_tests_pass_fail_with_the_difference_and_can_be_chosen(estate: Estate, tmp_path: Path) -> None:
    tree = written(tmp_path / "config", {**TREE, "tests/good.yaml": TEST, "tests/bad.yaml": TEST.replace("U1}", "U9}")})
    found = run(estate, "test", str(tree))
    assert found.exit_code == 1
    assert "1 passed, 1 failed" in found.output
    assert "tests/bad.yaml:5: document 1 (U1), number: expected 'U9', found 'U1'" in found.output
    assert run(estate, "test", str(tree), "--test", "good").exit_code == 0
    told = json.loads(run(estate, "test", str(tree), "--json").output)
    assert [(t["test"], t["passed"]) for t in told["tests"]] == [("bad", False), ("good", True)]
    assert "did you mean" in run(estate, "test", str(tree), "--test", "goot").output


def test_a_file_is_shown_field_by_field_by_a_tree_or_by_what_is_in_force(estate: Estate, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(b"SHIPMENT_NO;ITEM;QTY\nU1;A;1,5\nU2;B;x\n")
    shown = run(estate, "try", str(file), "--mapping", "wms")
    assert shown.exit_code == 0, shown.output
    assert "SHIPMENT_NO U1" in shown.output
    assert "in.csv line 3: bad_decimal" in shown.output
    tree = written(tmp_path / "config", TREE)
    told = json.loads(run(estate, "try", str(file), "--mapping", "wms", "--config", str(tree), "--json").output)
    (document,) = told["documents"]
    by_field = {entry["field"]: entry for entry in document["fields"]}
    assert by_field["lines[0].quantity"]["columns"] == {"QTY": "1,5"}
    assert by_field["lines[0].quantity"]["value"]["value"] == "1.5"
    assert (told["records"], told["whole"], told["dead"][0]["code"]) == (2, True, "bad_decimal")


def test_of_a_huge_file_only_the_beginning_is_read(estate: Estate, tmp_path: Path) -> None:
    file = tmp_path / "huge.csv"
    with file.open("wb") as stream:
        stream.write(b"SHIPMENT_NO;ITEM;QTY\n" + b"".join(b"N%d;A;1\n" % i for i in range(5_000)))
        stream.truncate(1024**3)  # sparse: it takes no room
    told = json.loads(run(estate, "try", str(file), "--mapping", "wms", "--records", "10", "--json").output)
    assert (told["records"], told["whole"], len(told["documents"])) == (10, False, 10)


def test_what_is_not_there_is_said_with_the_next_step(estate: Estate, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(b"x")
    assert "did you mean 'wms'" in run(estate, "try", str(file), "--mapping", "wns").output
    assert "it runs at atl1, rtm1" in run(estate, "try", str(file), "--mapping", "wms", "--site", "lon").output
    assert "is not a directory" in run(estate, "diff", "no/such").output
    assert "names no revision" in run(estate, "diff", "nosuch").output
    assert "say what is to be mapped again" in run(estate, "replay", "--source", "wms").output
    assert "--because is needed" in run(estate, "replay", "--source", "wms", "--last", "1h").output


def test_the_way_of_a_change_from_the_diff_to_the_replay(estate: Estate, tmp_path: Path) -> None:
    changed = {**TREE, "mappings/wms.yaml": TREE["mappings/wms.yaml"].replace('","', '",", uom: {value: KGM}')}
    tree = written(tmp_path / "config", changed)
    shown = run(estate, "diff", str(tree), "--last", "1h")
    assert shown.exit_code == 0, shown.output
    assert "Shipment.lines[].quantity.uom" in shown.output
    assert "Shipment U1 changed" in shown.output
    told = json.loads(run(estate, "diff", str(tree), "--site", "atl1", "--json").output)
    assert [(s["site"], s["changed"], s["dead_after"]) for s in told["sources"]] == [("atl1", 1, 1)]
    estate.apply(changed)
    dry = run(estate, "replay", "--source", "wms", "--last", "1h", "--dry-run")
    assert "4 records would be mapped again: 2 new versions, 2 records dead" in dry.output
    assert run(estate, "replay", "--source", "wms", "--last", "1h", "--because", "kg").exit_code == 0
    with closing(Normalizer(estate.data, Runtime.from_tree)) as normalizer:
        while normalizer.step():
            pass
    (done,) = json.loads(run(estate, "replays", "--json").output)["replays"]
    assert (done["state"], done["counts"]["changed"], done["because"]) == ("done", 2, "kg")
    assert "does not run any more" in run(estate, "cancel", "1").output
