"""The plan: what would change, where, in words."""

from __future__ import annotations

import json

from crossdock_controller.config.diff import Plan, plan
from support.trees import small_tree


def change(**changes: str | None) -> Plan:
    return plan(small_tree(), small_tree(**changes))


def test_an_equal_tree_is_nothing_to_do() -> None:
    result = change()
    assert result.nothing_to_do
    assert result.text() == "nothing to do: the tree equals the current revision"


def test_comments_alone_are_a_revision_without_effect() -> None:
    tree = small_tree()
    tree["sinks/finance.yaml"] = "# for the auditors\n" + tree["sinks/finance.yaml"]
    result = plan(small_tree(), tree)
    assert not result.nothing_to_do
    assert result.text() == "only comments or layout differ"


def test_a_first_tree_is_all_added() -> None:
    assert plan(None, small_tree()).text().splitlines() == [
        "site atl1",
        "  site atl1 added",
        "  source wms-shipments added",
        "site rtm1",
        "  site rtm1 added",
        "  source wms-shipments added",
        "controller",
        "  mapping wms-shipments added",
        "  route all added",
        "  sink finance added",
    ]


def test_changed_keys_are_shown_from_and_to_at_each_site_they_reach() -> None:
    result = change(
        sites__atl1="""\
            site: atl1
            labels: {region: us, env: test}
            zone: America/New_York
            variables: {wms_root: E:/wms}
            """,
        sources__shipments="""\
            source: wms-shipments
            on: {}
            kind: file_drop
            directory: ${wms_root}/out
            pattern: "S*.csv"
            format: {kind: csv, delimiter: ";", encoding: cp1252}
            """,
        mappings__shipments="""\
            mapping: wms-shipments
            document: Shipment
            each: SHIPMENT_NO
            fields:
              number: SHIPMENT_NO
              carrier: CARRIER
              lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
            """,
        routes__all="to: [finance]\n",
    )
    assert result.text().splitlines() == [
        "site atl1",
        "  site atl1 changed: labels.env set to test",
        "  source wms-shipments changed: directory D:/wms/out → E:/wms/out; lane critical → "
        "standard; pattern SHP*.csv → S*.csv",
        "site rtm1",
        "  source wms-shipments changed: lane critical → standard; pattern SHP*.csv → S*.csv",
        "controller",
        "  mapping wms-shipments changed: fields.carrier.from set to CARRIER",
        '  route all changed: when removed (was document == "Shipment")',
    ]


def test_what_is_gone_is_removed_where_it_was() -> None:
    result = change(sites__rtm1=None, sources__stock="""\
        source: wms-stock
        on: {region: us}
        kind: file_drop
        directory: x
        pattern: "*"
        format: {kind: csv}
        """)  # fmt: skip
    lines = [line for line in result.text().splitlines() if not line.startswith("warning")]
    assert lines == [
        "site atl1",
        "  source wms-stock added",
        "site rtm1",
        "  site rtm1 removed",
        "  source wms-shipments removed",
    ]


def test_a_plan_with_errors_changes_nothing_and_shows_them_all() -> None:
    result = change(routes__all="to: [nowhere]\n", sites__rtm1="site: rtm1\nzone: Mars\n")
    assert not result.applicable
    assert result.changes == ()
    assert result.text().splitlines()[-1].endswith("error(s): nothing can be applied")
    assert "error: routes/all.yaml:1: to[0]: there is no sink 'nowhere' (known: finance)" in result.text()


def test_a_program_reads_the_same_plan_as_json() -> None:
    result = change(routes__all="to: [finance]\n").as_json()
    assert json.loads(json.dumps(result)) == result
    assert result["applicable"]
    assert not result["nothing_to_do"]
    assert result["before"] != result["after"]
    assert [(c["part"], c["name"], c["action"], c["site"]) for c in result["changes"]] == [
        ("route", "all", "changed", "")
    ]
    assert result["changes"][0]["keys"] == [{"path": "when", "before": 'document == "Shipment"', "after": None}]


def test_a_current_revision_that_no_longer_loads_does_not_hide_the_new_one() -> None:
    result = plan({"sites/atl1.yaml": "site: atl1\nold_key: 1\n"}, small_tree())
    assert result.applicable
    assert "site atl1 added" in result.text()
