"""Trees that somebody made to hurt: each ends in a clear error, soon, and without taking the memory of the machine.

Time is not measured (a machine under load is slow): each would take minutes, or for ever, without its limit.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock_controller.config import includes, names, parts, tree
from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.load import inspect
from crossdock_controller.store.revisions import StoredTree
from support.trees import small_tree


def errors(files: dict[str, str], environment: str = "") -> list[str]:
    return [p.text() for p in errors_of(inspect(files, environment)[1])]


def bomb(width: int, depth: int) -> str:
    """Aliases of aliases: *width* ** *depth* values in a few lines."""
    lines = [f"a0: &a0 [{', '.join('x' * 1 for _ in range(width))}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


def test_an_alias_bomb_ends_at_the_limit_of_its_file() -> None:
    (found,) = errors(small_tree() | {"shared/bomb.yaml": bomb(10, 9)})
    assert found.startswith("shared/bomb.yaml:")
    assert "has more than 50000 values, aliases counted" in found


def test_many_files_that_are_each_just_below_the_limit_end_at_that_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_TREE_VALUES", 30_000)
    files = small_tree() | {f"shared/b{n}.yaml": bomb(10, 4) for n in range(40)}
    tracemalloc.start()
    found = errors(files)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert any("the tree has more than 30000 values" in text for text in found)
    assert peak < 100 * 1024 * 1024


def test_includes_that_multiply_end_at_the_limit_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_TREE_VALUES", 30_000)
    files = small_tree() | {"shared/big.yaml": "x:\n" + "".join(f"  k{n}: 1\n" for n in range(5000))}
    files |= {f"sources/s{n}.yaml": f"include: shared/big.yaml\nsource: s{n}\non: {{}}\n" for n in range(500)}
    assert any("the tree has more than 30000 values" in text for text in errors(files))


def test_shared_files_that_grow_by_including_one_another_end_at_the_limit_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(includes, "MAX_VALUES", 2_000)
    files = small_tree()
    for level in range(5):
        for n in range(16):
            below = [f"shared/l{level - 1}n{m}.yaml" for m in range(16)] if level else []
            keys = "".join(f"k{level}x{n}x{i}: 1\n" for i in range(60))
            files[f"shared/l{level}n{n}.yaml"] = (f"include: [{', '.join(below)}]\n" if below else "") + keys
    files["sources/shipments.yaml"] += "include: shared/l4n0.yaml\n"
    assert any("values with what it includes" in text or "the tree has more than" in text for text in errors(files))


def test_a_document_nested_deeper_than_the_stack_is_one_error() -> None:
    deep = "a: " + "[" * 20_000 + "]" * 20_000 + "\n"
    (found,) = errors(small_tree() | {"shared/deep.yaml": deep})
    assert "is nested more than 32 levels deep" in found


def test_sites_by_sources_are_limited() -> None:
    files = {f"sites/s{n}.yaml": f"site: s{n}\n" for n in range(2100)}
    files |= {f"sources/r{n}.yaml": f"source: r{n}\non: {{}}\nkind: file_drop\n" for n in range(2000)}
    assert any("2100 sites by 2000 sources are more than" in text for text in errors(files))


@pytest.mark.parametrize(
    "name",
    [
        "../sites/x.yaml", "/sites/x.yaml", "sites/../../x.yaml", "sites//x.yaml", "sites/./x.yaml", "sites\\x.yaml",
        "sites/C:x.yaml", "sites/x.yaml:stream.yaml", "sites/nul.yaml", "sites/COM1.yaml", "sites/nul .yaml",
        "sites/x./y.yaml", "sites/ x.yaml", "sites/a\nb.yaml", "sites/a\x00b.yaml", "sites/a\u202eb.yaml",
        "sites/\udcff.yaml", "sites/" + "x" * 300 + ".yaml", "sites/" + "d/" * 40 + "x.yaml", "sites/x?.yaml",
    ],
)  # fmt: skip
def test_a_name_that_is_no_plain_path_everywhere_is_refused_and_shown_without_harm(name: str) -> None:
    (problem,) = tree.check({name: "site: x\n"})
    assert problem.severity == "error"
    assert problem.file.isprintable()
    assert len(problem.file) <= names.MAX_NAME


def test_two_names_that_are_one_file_on_other_systems_are_refused() -> None:
    files = small_tree()
    files["sites/ATL1.yaml"] = "site: atl2\n"
    files["sites/caf\u00e9.yaml"] = "site: c1\n"
    files["sites/cafe\u0301.yaml"] = "site: c2\n"
    found = errors(files)
    assert sum("has the same name as" in text for text in found) == 2


def test_what_an_older_release_stored_under_such_a_name_stays_in_force_and_no_new_tree_gets_in_with_it() -> None:
    files = small_tree()
    files["sites/a:b.yaml"] = "site: ab\nvariables: {wms_root: x}\n"
    files["sites/ATL1.yaml"] = "site: other\nvariables: {wms_root: x}\n"
    assert len(errors(files)) == 2
    loaded, problems = inspect(StoredTree(files))
    assert loaded is not None
    assert sum(p.severity == "warning" for p in problems) == 2
    assert inspect(StoredTree(files | {"../evil.yaml": "x: 1\n"}))[0] is None


def test_names_in_other_languages_are_names() -> None:
    assert tree.check({"sites/łódź.yaml": "site: lodz\n", "sites/東京/站.yaml": "site: tokyo\n"}) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of this kind are POSIX")
def test_pipes_and_links_that_lead_out_are_named_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "sites").mkdir(parents=True)
    (folder / "sites" / "a.yaml").write_text("site: a\n", "utf-8")
    (tmp_path / "outside.yaml").write_text("password: hunter2\n", "utf-8")
    os.mkfifo(folder / "sites" / "pipe.yaml")  # whoever opens it waits for ever
    (folder / "sites" / "out.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "sites" / "ring.yaml").symlink_to(folder / "sites" / "ring.yaml")
    (folder / "sites" / "in.yaml").symlink_to(folder / "sites" / "a.yaml")
    (folder / "sites" / "folder").symlink_to(tmp_path)
    files, problems = tree.read(folder)
    assert sorted(files) == ["sites/a.yaml", "sites/in.yaml"]
    assert sorted(p.text() for p in problems) == [
        "sites/folder: is not read: only .yaml files are (rename it, or move it out of sites/)",
        "sites/out.yaml: is a link that leads out of the configuration (copy the file itself)",
        "sites/pipe.yaml: is no regular file (remove it)",
        "sites/ring.yaml: is no regular file (remove it)",
    ]
    assert "hunter2" not in str(problems)


def test_a_folder_that_holds_too_much_is_refused_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_TREE_BYTES", 10_000)
    (tmp_path / "sites").mkdir()
    for n in range(20):
        (tmp_path / "sites" / f"s{n}.yaml").write_text("#" * 1000, "utf-8")
    with pytest.raises(ConfigError, match="of configuration"):
        tree.read(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "\x00", "\ufffe", "site: !!python/object/apply:os.system [x]\n", "<<: *a\n", "*a\n", "&a [*a]\n",
        "---\n---\n", "%YAML 9.9\n", "? [a]\n: b\n", "{" * 5000, "'" * 4001, "a: |\n" + " " * 100_000, "\t: x\n",
        "a: &a\n  b: *a\n", "- " * 5000, "site: &x x\nlabels: {a: *x, b: *y}\n", "include: [shared/a.yaml, *x]\n",
        "include: {}\n", "include:\n", "include: 7\n", "on: 7\n", "variables: {a: {b: c}}\n",
        "variables: 7\nlabels: 7\noutbox: 7\n", "approvals: {}\n", "promotion: []\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["sites", "groups", "environments", "shared", "sinks", "policy"])
def test_whatever_a_file_holds_it_is_a_problem_and_never_a_crash(folder: str, text: str) -> None:
    name = "policy.yaml" if folder == "policy" else f"{folder}/x.yaml"
    for environment in ("", "prod"):
        loaded, problems = inspect(small_tree() | {name: text}, environment)
        assert loaded is not None or errors_of(problems)
