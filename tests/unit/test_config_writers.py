"""Writers in the tree: checked with each site's variables, sent to their sites only, and named by sinks."""

from __future__ import annotations

import pytest

from crossdock import siteconfig
from crossdock_controller.config.compile import site_config
from crossdock_controller.config.load import inspect, load

TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\nvariables: {drop: D:/in}\n",
    "sites/muc1.yaml": "site: muc1\nlabels: {region: eu}\nstop_all: true\n",
    "sources/stock.yaml": "source: stock\non: {region: us}\nkind: file_drop\ndirectory: in\nformat: {kind: csv}\n",
    "mappings/stock.yaml": "mapping: stock\ndocument: Product\nfields: {sku: SKU, description: NAME}\n",
    "routes/all.yaml": "to: [back]\n",
    "sinks/back.yaml": "sink: back\nkind: agent\nsite: atl1\nwriter: drop\n",
    "writers/drop.yaml": "writer: drop\non: {region: us}\nkind: file_drop\ndirectory: ${drop}\n",
}


def said(changes: dict[str, str]) -> str:
    return "\n".join(problem.text() for problem in inspect({**TREE, **changes})[1])


def test_a_site_gets_its_writers_with_its_variables_and_others_get_none() -> None:
    loaded = load(TREE)
    config = siteconfig.decode(site_config(loaded, "atl1", 1))
    assert [(w.name, w.kind, w.settings) for w in config.writers] == [("drop", "file_drop", {"directory": "D:/in"})]
    assert siteconfig.decode(site_config(loaded, "muc1", 1)).writers == ()


def test_an_agent_that_does_not_write_back_gets_the_same_without_writers() -> None:
    whole = site_config(load(TREE), "atl1", 1)
    less = siteconfig.without_writers(whole)
    assert b"writers" in whole
    assert b"writers" not in less
    assert siteconfig.without_writers(less) == less
    assert siteconfig.decode(less).sources == siteconfig.decode(whole).sources


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sinks/back.yaml": TREE["sinks/back.yaml"].replace("drop", "drpo")}, "there is no writer 'drpo'"),
        ({"sinks/back.yaml": TREE["sinks/back.yaml"].replace("atl1", "atl2")}, "there is no site 'atl2'"),
        ({"sinks/back.yaml": TREE["sinks/back.yaml"].replace("atl1", "muc1")}, "'drop' is not at site 'muc1'"),
        ({"writers/drop.yaml": TREE["writers/drop.yaml"].replace("${drop}", "${dorp}")}, "unknown variable ${dorp}"),
        ({"writers/drop.yaml": TREE["writers/drop.yaml"] + "makrer: x\n"}, "unknown key 'makrer'"),
        ({"writers/drop.yaml": TREE["writers/drop.yaml"].replace("file_drop", "fiel_drop")}, "unknown kind of writer"),
        ({"writers/drop.yaml": TREE["writers/drop.yaml"].replace("region: us", "region: mars")}, "selects no site"),
        ({"writers/other.yaml": TREE["writers/drop.yaml"]}, "the writer 'drop' is declared in writers/drop.yaml"),
    ],
)
def test_what_is_wrong_is_found_at_plan(changes: dict[str, str], expected: str) -> None:
    assert expected in said(changes)


def test_a_sound_tree_has_no_problem() -> None:
    assert said({}) == ""
