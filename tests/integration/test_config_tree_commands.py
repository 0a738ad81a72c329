"""`crossdock config pull`, `sites` and `secrets`: the tree as files again, and what it says of sites."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crossdock.errors import ConfigError, Refused
from crossdock_controller.access import Grant
from crossdock_controller.cli import root
from crossdock_controller.commands import approvals, configuration, diffs, environments, sites
from crossdock_controller.commands.pull import pull
from crossdock_controller.config import load
from crossdock_controller.config.errors import errors_of
from crossdock_controller.operations import plain
from crossdock_controller.operations.carry import Caller, carry_out
from crossdock_controller.operations.hints import hints
from crossdock_controller.operations.table import BY_PLACE
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import Elsewhere
from crossdock_controller.store import connection, migrate, revisions
from support.trees import small_tree


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    migrate(data.state)
    return data


@pytest.fixture
def run(data: DataDirectory) -> Callable[..., Result]:
    def run(*arguments: str, code: int = 0) -> Result:
        env = {"CROSSDOCK_DATA": str(data.root), "COLUMNS": "220"}
        found = CliRunner().invoke(root, [*arguments], env=env)
        assert found.exit_code == code, f"{found.output}\n{found.stderr}\n{found.exception!r}"
        return found

    return run


def write(folder: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


COMMENTED = (
    "# Atlanta, since 2019\n\nsite:   atl1     # the old one\nlabels: {  region: us }\n\n\nzone: America/New_York\n"
    "variables: {wms_root: 'D:/wms'}   # größer\n#   the end, without a newline"
)


def test_what_is_pulled_is_byte_for_byte_what_was_applied_and_a_plan_of_it_is_nothing_to_do(
    data: DataDirectory, run: Callable[..., Result], tmp_path: Path
) -> None:
    source = write(
        tmp_path / "git",
        small_tree(sites__atl1=COMMENTED) | {"sites/deep/x.yml": "site: x\nstop_all: true\nvariables: {wms_root: x}\n"},
    )
    configuration.apply(data, source, "local:anna", "", 1)
    out = tmp_path / "pulled"
    assert "7 files of revision 1 written" in run("config", "pull", str(out)).stdout
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.y*ml")} == {
        p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*.y*ml")
    }
    assert "Nothing to do" in run("plan", str(out)).stdout
    assert run("config", "pull", str(out), "--json").stdout.count("sites/") == 3  # all the same already


def test_files_that_differ_are_named_and_kept_unless_forced_and_others_are_left_alone(
    data: DataDirectory, run: Callable[..., Result], tmp_path: Path
) -> None:
    folder = write(tmp_path / "git", small_tree())
    configuration.apply(data, folder, "local:anna", "", 1)
    write(folder, {"sites/atl1.yaml": "site: mine\n", "sites/new.yaml": "site: new\n", "notes.txt": "keep"})
    (folder / "routes" / "all.yaml").unlink()
    refused = run("config", "pull", str(folder), code=1)
    assert "1 files differ from revision 1: sites/atl1.yaml" in refused.stderr
    assert not (folder / "routes" / "all.yaml").exists()  # nothing at all was written
    forced = run("config", "pull", str(folder), "--force").stdout
    assert "left alone: sites/new.yaml" in forced
    assert (folder / "sites" / "atl1.yaml").read_text("utf-8") == small_tree()["sites/atl1.yaml"]
    assert (folder / "notes.txt").read_text("utf-8") == "keep"
    assert not list(folder.rglob("*.new"))


def test_an_old_revision_can_be_pulled_by_its_hash(data: DataDirectory, tmp_path: Path) -> None:
    configuration.apply(data, write(tmp_path / "git", small_tree()), "local:anna", "", 1)
    old = configuration.history(data, 1)[0].hash
    configuration.apply(data, write(tmp_path / "git", {"routes/all.yaml": "to: [finance]\n"}), "local:anna", "", 2)
    assert pull(data, tmp_path / "old", revision=old[:8]).of == "revision 1"
    assert "when:" in (tmp_path / "old" / "routes" / "all.yaml").read_text("utf-8")


def store(data: DataDirectory, tree: dict[str, str]) -> None:
    """As a release that checked less would have."""
    with closing(connection.connect(data.state)) as db:
        hash_ = revisions.digest(revisions.dumps(tree))
        revisions.append(db, tree, hash_=hash_, author="x", message="", now_us=1)


@pytest.mark.parametrize(
    "name", ["../evil.yaml", "/tmp/evil.yaml", "sites/../../evil.yaml", "sites/C:evil.yaml", "evil.sh"]
)
def test_a_stored_name_that_leads_out_of_the_folder_is_never_written(
    data: DataDirectory, tmp_path: Path, name: str
) -> None:
    store(data, small_tree() | {name: "site: evil\n"})
    with pytest.raises(ConfigError, match="cannot be written as files"):
        pull(data, tmp_path / "a" / "b", force=True)
    assert not list(tmp_path.rglob("*evil*"))
    assert not list((tmp_path / "a").rglob("*.yaml"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_nothing_is_written_through_a_link(data: DataDirectory, tmp_path: Path) -> None:
    configuration.apply(data, write(tmp_path / "git", small_tree()), "local:anna", "", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sites").symlink_to(outside)
    with pytest.raises(ConfigError, match="through a link"):
        pull(data, tmp_path / "out", force=True)
    assert list(outside.iterdir()) == []


FLEET = {
    "sites/yul1.yaml": "site: yul1\nlabels: {region: ca, env: test}\nvariables: {wms_root: /wms}\n",
    "groups/us.yaml": "on: {region: us}\nvariables: {unused: x}\n",
    "sources/erp.yaml": (
        "source: erp\non: {region: {not: eu}}\nkind: sql_table\ntable: orders\nmode: incrementing\ncolumn: id\n"
        'connection: {odbc: "DSN=erp;UID=app;PWD={secret:erp}"}\n'
    ),
    "mappings/erp.yaml": "mapping: erp\ndocument: SalesOrder\nfields: {number: id}\n",
    "sinks/shop.yaml": (
        "sink: shop\nkind: http\nurl: https://shop.example/api\nheaders: {Authorization: 'secret:shop-token'}\n"
    ),
    "routes/shop.yaml": "to: [shop]\n",
}


def sound(tree: dict[str, str], environment: str = "") -> dict[str, str]:
    assert [p.text() for p in errors_of(load.inspect(tree, environment)[1])] == []
    return tree


def answer(run: Callable[..., Result], *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_which_sources_run_where_is_listed_and_narrowed_by_labels(run: Callable[..., Result], tmp_path: Path) -> None:
    folder = str(write(tmp_path / "git", sound(small_tree() | FLEET)))
    found = {s["site"]: s for s in answer(run, "config", "sites", folder)["sites"]}
    assert {name: s["sources"] for name, s in found.items()} == {
        "atl1": ["erp", "wms-shipments"],
        "rtm1": ["wms-shipments"],
        "yul1": ["erp", "wms-shipments"],
    }
    assert found["atl1"]["groups"] == ["us"]
    some = answer(
        run, "config", "sites", folder, "--label", "region=us", "--label", "region=ca", "--label", "env!=test"
    )
    assert [s["site"] for s in some["sites"]] == ["atl1"]
    assert "No site has these labels." in run("config", "sites", folder, "--label", "region=mars").stdout
    assert "write region=us" in run("config", "sites", folder, "--label", "mars", code=1).stderr


def test_which_secrets_must_be_set_where_is_listed_and_never_a_value(
    data: DataDirectory, run: Callable[..., Result], tmp_path: Path
) -> None:
    folder = str(write(tmp_path / "git", sound(small_tree() | FLEET)))
    found = answer(run, "config", "secrets", folder)["secrets"]
    assert [(s["where"], s["secret"], s["used_by"], s["known"]) for s in found] == [
        ("controller", "shop-token", ["sink shop"], False),
        ("atl1", "erp", ["source erp"], None),
        ("yul1", "erp", ["source erp"], None),
    ]
    assert found[0]["variable"] == "CROSSDOCK_SECRET_SHOP_TOKEN"
    (data.root / "secrets").mkdir()
    secret = data.root / "secrets" / "shop-token"
    secret.write_text("hunter2", "utf-8")
    secret.chmod(0o600)
    shown = run("config", "secrets", folder)
    assert "hunter2" not in shown.stdout
    assert answer(run, "config", "secrets", folder)["secrets"][0]["known"] is True


def test_a_plan_shows_what_would_be_elsewhere(data: DataDirectory, run: Callable[..., Result], tmp_path: Path) -> None:
    tree = small_tree() | {
        "environments/test.yaml": "on: {region: eu}\n",
        "environments/prod.yaml": "on: {region: us}\n",
    }
    folder = str(write(tmp_path / "git", tree))
    assert "plan --environment NAME" in run("plan", folder, code=1).stdout
    assert "site atl1" in run("plan", folder, "--environment", "prod").stdout
    run("config", "environment", "test")
    assert "site rtm1" in run("plan", folder).stdout
    assert "Nothing changes at" not in run("plan", folder, "--site", "rtm1").stdout
    assert "there is no site 'rtm2'" in run("plan", folder, "--site", "rtm2", code=1).stderr
    assert environments.environment(data).serves == "test"
    assert "This controller serves test." in run("config", "environment").stdout


def test_pull_says_what_is_missing(data: DataDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no revision yet"):
        pull(data, tmp_path / "out")
    configuration.apply(data, write(tmp_path / "git", small_tree()), "local:anna", "", 1)
    with pytest.raises(Refused, match="differ"):
        pull(data, write(tmp_path / "out", {"sites/atl1.yaml": "site: x\n"}))


class Desk:
    """An engineer's desk: what a command asks of a controller elsewhere is carried out by its API's one way in."""

    def __init__(self, data: DataDirectory, user: str) -> None:
        self._data, self._who = data, Caller(user, [Grant("admin", "all")])

    def ask(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> object:
        function = inspect.unwrap(function)
        operation = BY_PLACE[
            f"{function.__module__.removeprefix('crossdock_controller.commands.')}:{function.__name__}"
        ]
        body = json.dumps(plain.encode(dict(arguments))).encode()
        return plain.decode(json.loads(carry_out(operation, self._data, self._who, body)), hints(function)["return"])


def test_the_same_commands_from_the_engineers_desk_give_the_same_answers(data: DataDirectory, tmp_path: Path) -> None:
    policy = {"policy.yaml": "approvals: [{paths: ['sinks/*']}]\n", "environments/prod.yaml": "on: {}\n"}
    anna, bert = Elsewhere(Desk(data, "anna")), Elsewhere(Desk(data, "bert"))
    folder = write(tmp_path / "git", sound(small_tree() | FLEET | policy, "prod"))
    environments.set_environment(anna, "prod", "", 1)
    assert configuration.apply(anna, folder, "", "first", 1).revision == 1
    write(folder, {"sinks/shop.yaml": FLEET["sinks/shop.yaml"] + "retry_hours: 5\n"})
    assert configuration.plan(anna, folder).needs[0].paths == ("sinks/shop.yaml",)
    assert configuration.apply(anna, folder, "", "slower", 2).proposal == 1

    assert approvals.approvals(bert) == approvals.approvals(data)
    assert diffs.page(bert, "p1") == diffs.page(data, "p1")
    assert approvals.approve(bert, "p1", "", 3, comment="seen").revision == 2
    assert sites.sites(bert, folder) == sites.sites(data, folder)
    assert sites.secrets(bert) == sites.secrets(data)
    assert environments.environment(bert) == environments.environment(data)
    assert pull(bert, tmp_path / "pulled").of == "revision 2"
    assert configuration.plan(bert, tmp_path / "pulled").plan.nothing_to_do
    slip = environments.promote(bert, tmp_path / "slip.json", "", 4).slip
    assert (slip.environment, slip.issued_by) == ("prod", "user:bert")
