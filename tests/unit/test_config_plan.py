"""The plan: what would change, where, in words."""

from __future__ import annotations

import json

import pytest

from crossdock_controller.config import secrets, words
from crossdock_controller.config.diff import Plan, plan
from crossdock_controller.store.revisions import StoredTree
from support.trees import small_tree


def change(**changes: str | None) -> Plan:
    return plan(small_tree(), small_tree(**changes))


def test_an_equal_tree_is_nothing_to_do() -> None:
    result = change()
    assert result.nothing_to_do
    assert words.text(result) == "nothing to do: the tree equals the current revision"


def test_comments_alone_are_a_revision_without_effect() -> None:
    tree = small_tree()
    tree["sinks/finance.yaml"] = "# for the auditors\n" + tree["sinks/finance.yaml"]
    result = plan(small_tree(), tree)
    assert not result.nothing_to_do
    assert words.text(result) == "only comments or layout differ"


def test_a_first_tree_is_all_added() -> None:
    assert words.text(plan(None, small_tree())).splitlines() == [
        "all 2 sites",
        "  site added",
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
    assert words.text(result).splitlines() == [
        "site atl1",
        "  site atl1 changed: labels.env set to test",
        "  source wms-shipments changed: directory D:/wms/out → E:/wms/out; lane critical → "
        "standard; pattern SHP*.csv → S*.csv",
        "site rtm1",
        "  source wms-shipments changed: lane critical → standard; pattern SHP*.csv → S*.csv",
        "controller",
        "  mapping wms-shipments changed: fields.carrier.from set to CARRIER",
        '  route all changed: when removed (was document == "Shipment")',
        "restarts: wms-shipments at all 2 sites",
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
    lines = [line for line in words.text(result).splitlines() if not line.startswith("warning")]
    assert lines == [
        "site atl1",
        "  source wms-stock added",
        "site rtm1",
        "  site rtm1 removed",
        "  source wms-shipments removed",
        "stops: wms-shipments at rtm1",
    ]


def test_a_plan_with_errors_changes_nothing_and_shows_them_all() -> None:
    result = change(routes__all="to: [nowhere]\n", sites__rtm1="site: rtm1\nzone: Mars\n")
    assert not result.applicable
    assert result.changes == ()
    assert words.text(result).splitlines()[-1].endswith("error(s): nothing can be applied")
    assert "error: routes/all.yaml:1: to[0]: there is no sink 'nowhere' (known: finance)" in words.text(result)


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
    assert "site added" in words.text(result)
    assert len(result.touched) == len(small_tree())  # what it changes cannot be told: everything


def fleet(poll_us: int = 5, **changes: str) -> dict[str, str]:
    """80 sites, 38 of them in the US; a source for each region."""
    tree = small_tree(sites__atl1=None, sites__rtm1=None, **changes)
    for n in range(80):
        region = "us" if n < 38 else "eu"
        name = f"{region}{n:02}"
        tree[f"sites/{name}.yaml"] = f"site: {name}\nlabels: {{region: {region}}}\nvariables: {{wms_root: /{n}}}\n"
    tree["sources/stock.yaml"] = (
        "source: wms-stock\non: {region: us}\nkind: file_drop\ndirectory: ${wms_root}/stock\npattern: '*'\n"
        f"format: {{kind: csv}}\npoll_seconds: {poll_us}\n"
    )
    tree["mappings/stock.yaml"] = "mapping: wms-stock\ndocument: Shipment\nfields: {number: N}\n"
    return tree


def test_what_changes_alike_at_many_sites_is_said_once_with_the_label_they_share() -> None:
    made = plan(fleet(), fleet(30))
    assert [line for line in words.text(made).splitlines() if not line.startswith("warning")] == [
        "38 sites (region: us)",
        "  source wms-stock changed: poll_seconds 5 → 30",
        "restarts: wms-stock at 38 sites (region: us)",
        "untouched: 42 sites (region: eu)",
    ]
    assert len(made.as_json()["untouched_sites"]) == 42


def test_many_sources_that_restart_at_the_same_sites_are_one_line() -> None:
    def tree(poll: int) -> dict[str, str]:
        found = fleet(poll)
        for n in range(9):
            found[f"sources/x{n}.yaml"] = found["sources/stock.yaml"].replace("wms-stock", f"x{n}")
        return found

    assert words.summary(plan(tree(5), tree(6))) == [
        "restarts: wms-stock, x0, x1, x2, x3 and 5 more at 38 sites (region: us)",
        "untouched: 42 sites (region: eu)",
    ]


def test_a_site_that_differs_from_the_others_is_said_by_itself_and_can_be_asked_for_alone() -> None:
    new = fleet(30)
    new["sites/us07.yaml"] += "zone: America/Denver\n"
    made = plan(fleet(), new)
    assert "\nsite us07\n  site us07 changed: zone UTC → America/Denver\n" in words.text(made)
    assert [line for line in words.text(made, "us07").splitlines() if not line.startswith("warning")] == [
        "site us07",
        "  site us07 changed: zone UTC → America/Denver",
        "  source wms-stock changed: poll_seconds 5 → 30",
    ]


def test_a_change_of_the_controllers_own_parts_leaves_no_site_untouched() -> None:
    made = change(routes__all="to: [finance]\n")
    assert made.untouched == []
    assert {labels["site"] for labels in made.reached} == {"atl1", "rtm1"}


def test_a_file_is_touched_by_what_it_includes_its_groups_and_its_environment() -> None:
    old = StoredTree(small_tree(sites__atl1="site: atl1\nlabels: {region: us}\n"))
    old.environment = "prod"
    old["shared/sql.yaml"] = "kind: sql\nretry_hours: 5\n"
    old["sinks/finance.yaml"] = old["sinks/finance.yaml"].replace("kind: sql", "include: shared/sql.yaml")
    old["groups/us.yaml"] = "on: {region: us}\nvariables: {wms_root: D:/wms}\n"
    old["environments/prod.yaml"] = "on: {}\nvariables: {share: a}\n"
    shared = plan(old, old | {"shared/sql.yaml": "kind: sql\nretry_hours: 6\n"}, "prod")
    assert {"shared/sql.yaml", "sinks/finance.yaml"} <= set(shared.touched)
    assert "routes/all.yaml" not in shared.touched
    group = old | {"groups/us.yaml": "on: {region: us}\nvariables: {wms_root: E:/wms}\n"}
    assert {"groups/us.yaml", "sites/atl1.yaml"} <= set(plan(old, group, "prod").touched)
    environment = old | {"environments/prod.yaml": "on: {}\nvariables: {share: b}\n"}
    assert set(plan(old, environment, "prod").touched) >= {
        "sites/atl1.yaml",
        "sites/rtm1.yaml",
        "sources/shipments.yaml",
    }


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("+password: hunter2", "+password: ***"),
        ("-  db_password: 'hunter 2'", "-  db_password: ***"),
        (" connection: {password: hunter2, user: app}", " connection: {password: ***, user: app}"),
        ('+odbc: "DSN=wms;UID=app;PWD=hunter2;X=1"', '+odbc: "DSN=wms;UID=app;PWD=***;X=1"'),
        ("+url: postgresql://app:hunter2@db/x", "+url: postgresql://app:***@db/x"),
        ("+headers: {Authorization: Bearer hunter2}", "+headers: {Authorization: ***}"),
        ("+password: secret:finance-db", "+password: secret:finance-db"),
        ('+odbc: "DSN=wms;PWD={secret:wms-db}"', '+odbc: "DSN=wms;PWD={secret:wms-db}"'),
        ("+token: 'secret:shop'", "+token: 'secret:shop'"),
        ("+  sku: ITEM   # a token of it", "+  sku: ITEM   # a token of it"),
    ],
)
def test_a_line_of_a_file_never_shows_a_secret_and_otherwise_stays_as_it_is(line: str, shown: str) -> None:
    assert secrets.masked_line(line) == shown
