"""Labels, groups and environments: what many sites share, and what differs where a tree runs."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from crossdock_controller.config import selection
from crossdock_controller.config.errors import ConfigInvalid, errors_of
from crossdock_controller.config.load import inspect, load
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.config.tree import digest
from crossdock_controller.store.revisions import StoredTree
from support.trees import small_tree

US = {"region": "us", "env": "prod", "site": "atl1"}
CA = {"region": "ca", "site": "yul1"}
EU = {"region": "eu", "env": "test", "site": "rtm1"}


@pytest.mark.parametrize(
    ("on", "selected"),
    [
        ("{}", ["atl1", "yul1", "rtm1"]),
        ("{region: us}", ["atl1"]),
        ("{region: [us, ca]}", ["atl1", "yul1"]),
        ("{env: {not: test}}", ["atl1", "yul1"]),
        ("{region: [us, ca], env: {not: test}}", ["atl1", "yul1"]),
        ("{region: {not: [us, ca]}}", ["rtm1"]),
        ("{site: atl1}", ["atl1"]),
    ],
)
def test_labels_select_by_value_by_any_of_several_and_by_none_of_them(on: str, selected: list[str]) -> None:
    tree = small_tree(
        sources__shipments=f"source: s\non: {on}\nkind: file_drop\ndirectory: x\npattern: '*'\n",
        mappings__shipments=None,
    )
    tree["sources/shipments.yaml"] += "format: {kind: csv}\n"
    for labels in (US, CA, EU):
        name = labels["site"]
        own = {k: v for k, v in labels.items() if k != "site"}
        tree[f"sites/{name}.yaml"] = f"site: {name}\nlabels: {json.dumps(own)}\n"
    source = load(tree).sources["s"]
    assert [labels["site"] for labels in (US, CA, EU) if selection.matches(source.on, labels)] == selected


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("{region: {nott: us}}", "on.region.nott: unknown key 'nott'"),
        ("{region: {not: []}}", "on.region.not: must have entries"),
        ("{region: 7}", "on.region: must be text (put it in quotes)"),
        ("us", "on: must be a mapping"),
    ],
)
def test_a_selection_that_is_none_is_told_in_words(on: str, message: str) -> None:
    tree = small_tree()
    tree["sources/shipments.yaml"] = tree["sources/shipments.yaml"].replace("on: {}", f"on: {on}")
    found = [p.text() for p in errors_of(inspect(tree)[1])]
    assert any(message in text for text in found), found


def test_labels_as_a_person_types_them() -> None:
    on = selection.parse(["region=us", "region=ca", "env!=test"])
    assert selection.matches(on, US)
    assert selection.matches(on, CA)
    assert not selection.matches(on, EU)
    assert selection.text(on) == "region: us or ca, env: not test"
    with pytest.raises(ValueError, match="write region=us"):
        selection.parse(["region"])


GROUPS = {
    "groups/lagerfix.yaml": """\
        on: {wms: lagerfix}
        variables: {wms_root: C:/lagerfix, zone_of_files: local}
        outbox: {max_bytes: 2 GiB}
        """,
    "groups/lagerfix-us.yaml": """\
        on: {wms: lagerfix, region: us}
        variables: {wms_root: E:/lagerfix}
        """,
}
SITE = "site: {}\nlabels: {{wms: lagerfix, region: {}}}\n"


def grouped(**changes: str | None) -> dict[str, str]:
    tree = small_tree(sites__atl1=SITE.format("atl1", "us"), sites__rtm1=SITE.format("rtm1", "eu"), **changes)
    return {**{name: dedent(text) for name, text in GROUPS.items()}, **tree}


def test_sites_take_what_they_do_not_say_from_their_groups_the_more_specific_one_first() -> None:
    loaded = load(grouped())
    assert loaded.sites["atl1"].variables == {"wms_root": "E:/lagerfix", "zone_of_files": "local"}
    assert loaded.sites["rtm1"].variables["wms_root"] == "C:/lagerfix"
    assert loaded.sites["rtm1"].outbox.max_bytes == 2 * 1024**3
    assert loaded.settings_at("atl1", "wms-shipments")["directory"] == "E:/lagerfix/out"  # type: ignore[index]


def test_a_site_wins_over_its_groups_key_by_key() -> None:
    site = SITE.format("atl1", "us") + "variables: {wms_root: F:/own}\noutbox: {min_free_disk_bytes: 5 GiB}\n"
    loaded = load(grouped() | {"sites/atl1.yaml": site})
    assert loaded.sites["atl1"].variables == {"wms_root": "F:/own", "zone_of_files": "local"}
    assert loaded.sites["atl1"].outbox.max_bytes == 2 * 1024**3
    assert loaded.sites["atl1"].outbox.min_free_disk_bytes == 5 * 1024**3


def test_two_groups_that_contradict_each_other_are_an_error_that_names_both() -> None:
    tree = grouped(groups__us="on: {region: us}\nvariables: {zone_of_files: utc}\n")
    (problem,) = errors_of(inspect(tree)[1])
    assert problem.text() == (
        "groups/us.yaml:2: variables.zone_of_files: groups/lagerfix.yaml sets it to something else for site atl1, and "
        "is as specific (name one label more in 'on' of the one that is to win, or set it at the site)"
    )


def test_groups_that_agree_or_are_overruled_are_no_contradiction() -> None:
    same = grouped(groups__us="on: {region: us}\nvariables: {zone_of_files: local}\n")
    assert errors_of(inspect(same)[1]) == []
    overruled = grouped(groups__us="on: {region: us}\nvariables: {wms_root: X}\n")
    assert load(overruled).sites["atl1"].variables["wms_root"] == "E:/lagerfix"


def test_a_mistake_in_a_group_is_told_once_and_in_its_file() -> None:
    tree = grouped(groups__us="on: {region: us}\noutbox: {max_byte: 1 GiB}\n")
    found = errors_of(inspect(tree)[1])
    assert [(p.file, p.line, p.path) for p in found] == [("groups/us.yaml", 2, "outbox.max_byte")]


ENVIRONMENTS = {
    "environments/test.yaml": """\
        on: {env: test}
        variables: {share: //test, finance_db: finance-test.db}
        """,
    "environments/prod.yaml": """\
        on: {env: {not: test}}
        variables: {share: //prod, finance_db: finance.db}
        """,
}


def staged(**changes: str | None) -> dict[str, str]:
    tree = small_tree(
        sites__atl1="site: atl1\nlabels: {region: us}\nvariables: {wms_root: '${share}/atl1'}\n",
        sites__rtm1="site: rtm1\nlabels: {region: eu, env: test}\nvariables: {wms_root: '${share}/rtm1'}\n",
        **changes,
    )
    tree["sinks/finance.yaml"] = tree["sinks/finance.yaml"].replace("finance.db", "${finance_db}")
    return {**{name: dedent(text) for name, text in ENVIRONMENTS.items()}, **tree}


def test_one_tree_serves_each_environment_its_own_sites_and_values() -> None:
    test, prod = load(staged(), "test"), load(staged(), "prod")
    assert (sorted(test.sites), sorted(prod.sites)) == (["rtm1"], ["atl1"])
    assert test.sinks["finance"].settings["url"] == "sqlite:///finance-test.db"
    assert prod.sinks["finance"].settings["url"] == "sqlite:///finance.db"
    assert prod.settings_at("atl1", "wms-shipments")["directory"] == "//prod/atl1/out"  # type: ignore[index]
    assert digest(test.tree) == digest(prod.tree)


def test_a_mistake_in_the_other_environment_is_found_in_this_one() -> None:
    tree = staged()
    tree["environments/prod.yaml"] = "on: {env: {not: test}}\nvariables: {finance_db: x}\n"
    found = [p.text() for p in errors_of(inspect(tree, "test")[1])]
    assert len(found) == 1
    assert found[0].startswith("sites/atl1.yaml:3: variables.wms_root: unknown variable ${share} in environment prod")


def test_a_sink_must_be_sound_in_every_environment() -> None:
    tree = staged()
    tree["environments/prod.yaml"] = "on: {env: {not: test}}\nvariables: {share: x}\n"
    found = [p.text() for p in errors_of(inspect(tree, "test")[1])]
    assert found == [
        "sinks/finance.yaml:3: url: unknown variable ${finance_db} in environment prod (known: environment, share)"
    ]


def test_a_controller_and_a_tree_must_agree_on_the_environment() -> None:
    def error(tree: dict[str, str], environment: str) -> str:
        with pytest.raises(ConfigInvalid) as raised:
            load(tree, environment)
        (problem,) = errors_of(raised.value.problems)
        return problem.text()

    assert "the tree has environments (prod, test), and it is not said which is meant" in error(staged(), "")
    assert "which the tree does not have (did you mean 'prod'?)" in error(staged(), "prodd")
    assert "and the tree has no environments (add environments/prod.yaml)" in error(small_tree(), "prod")


def test_a_rule_that_guards_nothing_is_a_warning() -> None:
    policy = "approvals:\n  - paths: [sink/*, 'sinks/*', shared/*, policy.yaml]\n    sites: {region: mars}\n"
    found = [p.text() for p in inspect(small_tree() | {"policy.yaml": policy})[1]]
    assert found == [
        "policy.yaml:2: approvals[0].paths[0]: no file of the tree is called so: 'sink/*' (write it like sinks/*)",
        "policy.yaml:2: approvals[0].paths[2]: no file of the tree is called so: 'shared/*' (write it like sinks/*)",
        "policy.yaml:3: approvals[0].sites: selects no site (no site has region: mars; known: eu, us)",
    ]


def test_a_policy_must_name_environments_that_exist() -> None:
    fingerprint = "AB:" * 31 + "ab"
    policy = f"promotion: {{from: tset, authority: '{fingerprint}'}}\napprovals: [{{environments: [prodd]}}]\n"
    found = [p.text() for p in errors_of(inspect(staged() | {"policy.yaml": policy}, "prod")[1])]
    assert found == [
        "policy.yaml:1: promotion.from: there is no environment 'tset' (did you mean 'test'?)",
        "policy.yaml:2: approvals[0].environments[0]: there is no environment 'prodd' (did you mean 'prod'?)",
    ]
    short = policy.replace("AB:", "", 1)
    found = [p.text() for p in errors_of(inspect(staged() | {"policy.yaml": short}, "prod")[1])]
    assert any("promotion.authority: is no fingerprint" in text for text in found)


def test_a_site_of_no_environment_is_a_warning_and_is_served_nowhere() -> None:
    tree = staged() | {"environments/prod.yaml": "on: {env: prod}\nvariables: {share: x, finance_db: y}\n"}
    loaded, problems = inspect(tree, "prod")
    assert loaded is not None
    assert loaded.sites == {}
    assert any(p.file == "sites/atl1.yaml" and "belongs to no environment" in p.message for p in problems)


def test_a_stored_tree_is_taken_in_the_environment_it_was_put_in_force_for() -> None:
    tree = StoredTree(staged())
    tree.environment = "prod"
    assert sorted(Runtime.from_tree(tree, 1).sites) == ["atl1"]


def test_without_environments_a_sink_keeps_its_text_as_it_is() -> None:
    tree = small_tree()
    tree["sinks/finance.yaml"] = tree["sinks/finance.yaml"].replace("finance.db", "${finance_db}")
    assert load(tree).sinks["finance"].settings["url"] == "sqlite:///${finance_db}"
