"""`include`: defaults from shared files; every problem points to where its text really stands."""

from __future__ import annotations

import pytest

from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.load import inspect, load
from support.trees import small_tree

SHIPMENTS = """\
    source: wms-shipments
    on: {}
    include: shared/files.yaml
    directory: ${wms_root}/out
    pattern: "SHP*.csv"
    format: {encoding: utf-8}
    """
FILES = """\
    kind: file_drop
    lane: critical
    pattern: "*"
    format:
      kind: csv
      delimiter: ";"
      encoding: cp1252
    """


def texts(**changes: str | None) -> list[str]:
    return [p.text() for p in inspect(small_tree(**changes))[1]]


def test_what_is_included_is_a_default_and_the_files_own_keys_win_key_by_key() -> None:
    tree = small_tree(sources__shipments=SHIPMENTS, shared__files=FILES)
    source = load(tree).sources["wms-shipments"]
    assert source.lane == "critical"
    assert source.settings == {
        "directory": "${wms_root}/out",
        "pattern": "SHP*.csv",
        "format": {"kind": "csv", "delimiter": ";", "encoding": "utf-8"},
    }


def test_of_several_includes_later_ones_win_and_shared_files_include_others() -> None:
    tree = small_tree(
        sources__shipments="""\
            source: wms-shipments
            include: [shared/files.yaml, shared/slow.yaml]
            on: {}
            directory: ${wms_root}/out
            """,
        shared__files=FILES,
        shared__slow="include: shared/deep/pace.yaml\npattern: S*\n",
        shared__deep__pace="poll_seconds: 300\nlane: bulk\npattern: P*\n",
    )
    source = load(tree).sources["wms-shipments"]
    assert (source.lane, source.settings["poll_seconds"], source.settings["pattern"]) == ("bulk", 300, "S*")


def test_a_problem_of_a_shared_key_points_into_the_shared_file_and_one_of_an_own_key_does_not() -> None:
    found = texts(
        sources__shipments="""\
            source: wms-shipments
            on: {}
            include: shared/files.yaml
            directory: ${wms_root}/out
            patern: "SHP*.csv"
            """,
        shared__files=FILES.replace("lane: critical", "lane: urgent").replace('delimiter: ";"', 'delimiter: ";;"'),
    )
    assert [t.split(": ")[0] for t in found] == [
        "shared/files.yaml:2",
        "shared/files.yaml:6",
        "sources/shipments.yaml:5",
    ]


def test_a_mistake_in_a_shared_file_is_told_once_however_many_include_it() -> None:
    tree = small_tree(shared__files="kind: file_drop\nlane critical\n")
    for n in range(5):
        tree[f"sources/s{n}.yaml"] = f"source: s{n}\non: {{}}\ninclude: shared/files.yaml\n"
    found = errors_of(inspect(tree)[1])
    assert [(p.file, p.line) for p in found] == [("shared/files.yaml", 3)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared/fils.yaml", "there is no file 'shared/fils.yaml' (did you mean 'shared/files.yaml'?)"),
        ("../files.yaml", "'../files.yaml' is no shared file (write shared/NAME.yaml)"),
        ("shared/../sinks/finance.yaml", "'shared/../sinks/finance.yaml' is no shared file (write shared/NAME.yaml)"),
        ("/etc/passwd.yaml", "'/etc/passwd.yaml' is no shared file (write shared/NAME.yaml)"),
        ("sinks/finance.yaml", "'sinks/finance.yaml' is no shared file (write shared/NAME.yaml)"),
        ('"shared\\\\files.yaml"', "'shared\\\\files.yaml' is no shared file (write shared/NAME.yaml)"),
        ("{a: 1}", "this is no shared file (write shared/NAME.yaml)"),
    ],
)
def test_only_files_of_the_folder_shared_can_be_included(name: str, message: str) -> None:
    found = texts(sources__shipments=SHIPMENTS.replace("shared/files.yaml", name), shared__files=FILES)
    assert f"sources/shipments.yaml:3: include: {message}" in found
    assert len([t for t in found if "no file includes it" not in t]) == 1


def test_files_that_include_one_another_are_refused_with_the_whole_ring() -> None:
    found = texts(
        sources__shipments=SHIPMENTS,
        shared__files="include: shared/b.yaml\nlane: bulk\n",
        shared__b="include: shared/c.yaml\n",
        shared__c="lane: bulk\ninclude: shared/files.yaml\n",
    )
    assert found == [
        "shared/c.yaml:2: include: includes itself: shared/files.yaml > shared/b.yaml > shared/c.yaml > "
        "shared/files.yaml (remove one of these includes)"
    ]


def test_includes_have_a_depth_and_a_number() -> None:
    tree = small_tree(sources__shipments=SHIPMENTS.replace("files", "s0"))
    for n in range(3000):  # deeper than the interpreter's own stack
        tree[f"shared/s{n}.yaml"] = f"include: shared/s{n + 1}.yaml\n"
    tree["shared/s3000.yaml"] = "lane: bulk\n"
    found = errors_of(inspect(tree)[1])
    assert found
    assert all("deep" in p.message for p in found)
    many = ", ".join(f"shared/f{n}.yaml" for n in range(17))
    wide = texts(sources__shipments=SHIPMENTS.replace("shared/files.yaml", f"[{many}]"))
    assert wide == ["sources/shipments.yaml:3: include: names 17 files, the limit is 16 (include less)"]


def test_a_shared_file_that_nobody_includes_is_a_warning() -> None:
    tree = small_tree(shared__files=FILES)
    _, (problem,) = inspect(tree)
    assert problem.severity == "warning"
    assert problem.text() == "shared/files.yaml: no file includes it (include it, or delete it)"


def test_every_kind_of_file_may_include() -> None:
    tree = small_tree(
        sites__atl1="include: shared/us.yaml\nsite: atl1\n",
        shared__us="labels: {region: us}\nvariables: {wms_root: D:/wms}\n",
        mappings__shipments="""\
            include: shared/shipment.yaml
            mapping: wms-shipments
            fields:
              number: SHIPMENT_NO
            """,
        shared__shipment="""\
            document: Shipment
            each: SHIPMENT_NO
            fields:
              number: NO
              lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
            """,
        routes__all="include: shared/route.yaml\n",
        shared__route="to: [finance]\n",
        sinks__finance="include: shared/sink.yaml\nsink: finance\n",
        shared__sink="""\
            kind: sql
            url: sqlite:///finance.db
            tables:
              Shipment: {table: shipment, key: [number], columns: {number: number}}
            """,
    )
    loaded = load(tree)
    assert loaded.sites["atl1"].labels == {"region": "us"}
    assert loaded.sinks["finance"].kind == "sql"
    assert loaded.routes["all"].to == ["finance"]
    assert str(loaded.mappings["wms-shipments"].fields).count("SHIPMENT_NO") == 1
