"""A tree as it is read from a directory and stored as a revision."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.config import tree
from support.trees import small_tree


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_tree_is_its_yaml_files_by_posix_path_sorted_and_with_plain_newlines(tmp_path: Path) -> None:
    write(tmp_path, {
        "sites/b.yaml": b"site: b\r\n",
        "sites/a.yaml": b"\xef\xbb\xbfsite: a\n",
        "sources/wms/deep.yml": "source: größer\n".encode(),
        "README.md": b"# not part of it",
        ".git/config.yaml": b"nor this",
        "sites/.hidden.yaml": b"nor this",
    })  # fmt: skip
    files, problems = tree.read(tmp_path)
    assert problems == []
    assert files == {
        "sites/a.yaml": "site: a\n",
        "sites/b.yaml": "site: b\n",
        "sources/wms/deep.yml": "source: größer\n",
    }
    assert list(files) == sorted(files)


def test_what_would_be_ignored_silently_is_a_problem_and_hides_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {
        "site/a.yaml": b"site: a\n",
        "top.yaml": b"a: 1\n",
        "sites/a.yaml.bak": b"site: a\n",
        "sites/latin.yaml": b"site: a\nzone: M\xfcnchen\n",
        "sites/huge.yaml": b"#" * (tree.MAX_FILE_BYTES + 1),
        "sites/good.yaml": b"site: good\n",
    })  # fmt: skip
    files, problems = tree.read(tmp_path)
    assert list(files) == ["sites/good.yaml"]
    assert sorted((p.severity, p.text()) for p in problems) == [
        ("error", "site/a.yaml: lies outside the folders of a configuration (did you mean 'sites'?)"),
        ("error", "sites/huge.yaml: is larger than 4 MB (a configuration file is a few kB)"),
        ("error", "sites/latin.yaml:2: byte 0xfc is not UTF-8 (save the file as UTF-8)"),
        (
            "error",
            "top.yaml: lies outside the folders of a configuration "
            f"(move it into one of {', '.join(tree.FOLDERS)}; only policy.yaml stands at the top)",
        ),
        ("warning", "sites/a.yaml.bak: is not read: only .yaml files are (rename it, or move it out of sites/)"),
    ]


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a directory"):
        tree.read(tmp_path / "missing")


def test_a_file_that_cannot_be_read_is_a_problem_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"sites/a.yaml": b"site: a\n", "sites/b.yaml": b"site: b\n"})
    opened = Path.open

    def locked(path: Path, *args: Any) -> Any:
        if path.name == "a.yaml":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", locked)
    files, (problem,) = tree.read(tmp_path)
    assert problem.text() == "sites/a.yaml: cannot be read: Permission denied (check its permissions)"
    assert files == {"sites/b.yaml": "site: b\n"}


@pytest.mark.parametrize("name", ["../sites/a.yaml", "/sites/a.yaml", "sites\\a.yaml", "sites/../../a.yaml"])
def test_a_path_that_leaves_the_tree_is_refused(name: str) -> None:
    assert [p.message for p in tree.check({name: ""})] == ["is not a relative path with forward slashes"]


def test_the_limit_also_holds_for_a_tree_that_came_from_elsewhere() -> None:
    (problem,) = tree.check({"sites/a.yaml": "ä" * (tree.MAX_FILE_BYTES // 2 + 1)})
    assert problem.message == "is larger than 4 MB"


def test_the_hash_of_a_tree_is_fixed_for_ever() -> None:
    assert tree.dumps({"b": "2", "a": "ü\n"}) == '{"a":"ü\\n","b":"2"}'
    expected = "315be13875e1e1a4207eed143afdf971050f69c768edf6760acafd03564752cc"
    assert tree.digest({"b": "2", "a": "ü\n"}) == expected


def test_the_hash_depends_on_content_not_on_order() -> None:
    files = small_tree()
    assert tree.digest(files) == tree.digest(dict(reversed(files.items())))
    assert tree.digest(files) != tree.digest({**files, "sites/atl1.yaml": files["sites/atl1.yaml"] + " "})
    assert tree.digest({"a": "bc"}) != tree.digest({"ab": "c"})


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5))
def test_a_stored_tree_comes_back_as_it_was(files: dict[str, str]) -> None:
    assert tree.loads(tree.dumps(files)) == files
    tree.digest(files)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_damaged_revision_is_corrupt(text: str) -> None:
    with pytest.raises(Corrupt, match="stored revision"):
        tree.loads(text)
