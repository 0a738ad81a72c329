"""A tree is `{posix path: text}`: the whole configuration as one value, stored as a revision byte for byte.

Only YAML files inside its folders, `policy.yaml`, and CSV files in `lists/` belong to it. What would be ignored
silently (a folder mistyped, an editor's copy, another encoding) is a problem instead: an operator must never believe in
a file that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.config import names
from crossdock_controller.config.errors import Problem
from crossdock_controller.hints import did_you_mean

Tree = Mapping[str, str]

FOLDERS = (
    "sites", "sources", "mappings", "routes", "sinks", "writers", "lists", "groups", "environments", "teams",
    "reconciliations", "shared", "tests",
)  # fmt: skip
POLICY = "policy.yaml"
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_TREE_BYTES = 16 * 1024 * 1024  # ruamel reads about 200 kB a second
MAX_FILES = 20_000
_SUFFIXES = (".yaml", ".yml")
_TABLES = ("lists", ".csv")  # the folder in which such files are read as well
_HINT_TOP = f"move it into one of {', '.join(FOLDERS)}; only {POLICY} stands at the top"


def read(directory: Path) -> tuple[dict[str, str], list[Problem]]:
    """The tree below *directory*, sorted by path, and what could not be taken into it.

    Files and folders whose name begins with a dot are skipped, and so are files at the top that are not YAML (a README,
    a licence). Raises ConfigError when *directory* is no directory.
    """
    if not directory.is_dir():
        raise ConfigError(
            f"{directory} is not a directory", hint="name the folder that holds sites/, sources/, sinks/ ..."
        )
    tree: dict[str, str] = {}
    problems: list[Problem] = []
    size = 0
    for path in _files(directory):
        name = path.relative_to(directory).as_posix()
        if folder_of(name) not in FOLDERS and path.suffix not in _SUFFIXES:
            continue
        problem = _misplaced(name) or _no_file_of_ours(path, name, directory)
        if problem is not None:
            problems.append(problem)
        else:
            text = _read_text(path, name)
            if isinstance(text, Problem):
                problems.append(text)
                continue
            tree[name] = text
            size += len(text)
            if size > MAX_TREE_BYTES:
                raise ConfigError(
                    f"{directory} holds more than {MAX_TREE_BYTES // 1024 // 1024} MB of configuration",
                    hint="is this the configuration's own folder?",
                )
    return dict(sorted(tree.items())), problems


def check(tree: Tree, *, lenient: bool = False) -> list[Problem]:
    """The same rules for a tree that did not come from a directory (an API, a stored revision).

    *lenient*, for a revision that an older release stored: a name that not every system allows is a warning, so that
    what is in force stays in force.
    """
    problems = [p for name in tree if (p := _misplaced(name) or _unread(name)) is not None]
    for name, text in tree.items():
        if len(text) > MAX_FILE_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
            problems.append(_oversized(name))
    for name, other in names.collisions(tree):
        message = f"has the same name as {other} where capitals do not count (Windows, macOS)"
        problems.append(Problem(name, 0, "", message, "rename one of them"))
    return [_lenient(p) for p in problems] if lenient else problems


def _lenient(problem: Problem) -> Problem:
    return problem if problem.message == names.NO_PATH else replace(problem, severity="warning")


def dumps(tree: Tree) -> str:
    """Deterministic JSON, for a revision: sorted keys, no blanks, nothing escaped that need not be."""
    return json.dumps(dict(tree), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def loads(text: str) -> dict[str, str]:
    """The tree that `dumps` wrote. Raises Corrupt for anything else."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Corrupt(
            f"stored revision is not JSON: {error}", hint="restore the state database from its backup"
        ) from error
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Corrupt("stored revision is not a tree of texts", hint="restore the state database from its backup")
    return dict(sorted(value.items()))


def digest(tree: Tree) -> str:
    """SHA-256 of the content, hex: equal trees have equal digests, on every platform."""
    return hashlib.sha256(dumps(tree).encode("utf-8", "surrogatepass")).hexdigest()


def folder_of(name: str) -> str:
    return name.partition("/")[0]


def _files(directory: Path) -> Iterator[Path]:
    """Files, sorted; hidden ones and hidden folders left out. A link to a folder is given as a file: nobody follows it.

    Raises ConfigError for a folder that cannot be read.
    """
    found = 0
    for root, folders, files in os.walk(directory, onerror=_unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted([*files, *(f for f in folders if Path(root, f).is_symlink())]):
            if file.startswith("."):
                continue
            found += 1
            if found > MAX_FILES:
                raise ConfigError(
                    f"{directory} holds more than {MAX_FILES} files", hint="is this the configuration's own folder?"
                )
            yield Path(root, file)


def _unreadable(error: OSError) -> None:
    raise ConfigError(f"{error.filename} cannot be read: {error.strerror}", hint="check its permissions") from error


def _misplaced(name: str) -> Problem | None:
    parts = PurePosixPath(name).parts
    suffix = PurePosixPath(name).suffix
    wrong = names.wrong(name)
    if wrong:
        return Problem(names.shown(name), 0, "", wrong, "rename it")
    if name == POLICY:
        return None
    if parts[0] in FOLDERS and len(parts) > 1:
        if suffix in _SUFFIXES or (parts[0], suffix) == _TABLES:
            return None
        return Problem(
            name,
            0,
            "",
            f"is not read: only .yaml{' and .csv' if parts[0] == _TABLES[0] else ''} files are",
            f"rename it, or move it out of {parts[0]}/",
            severity="warning",
        )
    if suffix in _SUFFIXES:
        hint = did_you_mean(parts[0], FOLDERS) if len(parts) > 1 else _HINT_TOP
        return Problem(name, 0, "", "lies outside the folders of a configuration", hint)
    return None


def _unread(name: str) -> Problem | None:
    """A file that `read` would have left out."""
    if name == POLICY or folder_of(name) in FOLDERS:
        return None
    return Problem(name, 0, "", "is no file of a configuration", _HINT_TOP)


def _no_file_of_ours(path: Path, name: str, directory: Path) -> Problem | None:
    """What must not be opened: a pipe or a device (it could wait for ever), a link that leads out of the tree."""
    if path.is_dir():
        return Problem(name, 0, "", "is a link to a folder and is not followed", "put the folder itself there")
    if not path.is_file():
        return Problem(name, 0, "", "is no regular file", "remove it")
    if path.is_symlink() and not path.resolve().is_relative_to(directory.resolve()):
        return Problem(name, 0, "", "is a link that leads out of the configuration", "copy the file itself")
    return None


def _oversized(name: str) -> Problem:
    return Problem(
        name, 0, "", f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MB", "a configuration file is a few kB"
    )


def _read_text(path: Path, name: str) -> str | Problem:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return Problem(name, 0, "", f"cannot be read: {error.strerror}", "check its permissions")
    if len(data) > MAX_FILE_BYTES:
        return _oversized(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(name, line, "", f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
    return text.replace("\r\n", "\n")
