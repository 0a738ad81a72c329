"""A tree is `{posix path: text}`: the whole configuration as one value, stored as a revision byte for byte.

Only YAML files inside the five folders belong to it. What would be ignored silently (a folder mistyped, an editor's
copy, another encoding) is a problem instead: an operator must never believe in a file that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.config.errors import Problem
from crossdock_controller.hints import did_you_mean

Tree = Mapping[str, str]

FOLDERS = ("sites", "sources", "mappings", "routes", "sinks")
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 20_000
_SUFFIXES = (".yaml", ".yml")


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
    for path in _files(directory):
        name = path.relative_to(directory).as_posix()
        problem = _misplaced(name)
        if problem is not None:
            problems.append(problem)
        elif PurePosixPath(name).suffix in _SUFFIXES:
            text = _read_text(path, name)
            if isinstance(text, Problem):
                problems.append(text)
            else:
                tree[name] = text
    return dict(sorted(tree.items())), problems


def check(tree: Tree) -> list[Problem]:
    """The same rules for a tree that did not come from a directory (an API, a stored revision)."""
    problems = [p for name in tree if (p := _misplaced(name)) is not None]
    for name, text in tree.items():
        if len(text) > MAX_FILE_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
            problems.append(_oversized(name))
    return problems


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
    """Regular files, sorted; hidden ones and hidden folders left out. Links to folders are not followed."""
    found = 0
    for root, folders, files in os.walk(directory):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if file.startswith("."):
                continue
            found += 1
            if found > MAX_FILES:
                raise ConfigError(
                    f"{directory} holds more than {MAX_FILES} files", hint="is this the configuration's own folder?"
                )
            yield Path(root, file)


def _misplaced(name: str) -> Problem | None:
    parts = PurePosixPath(name).parts
    suffix = PurePosixPath(name).suffix
    if not parts or name.startswith("/") or ".." in parts or "\\" in name:
        return Problem(name, 0, "", "is not a relative path with forward slashes")
    if parts[0] in FOLDERS and len(parts) > 1:
        if suffix in _SUFFIXES:
            return None
        return Problem(
            name,
            0,
            "",
            "is not read: only .yaml files are",
            f"rename it, or move it out of {parts[0]}/",
            severity="warning",
        )
    if suffix in _SUFFIXES:
        hint = did_you_mean(parts[0], FOLDERS) if len(parts) > 1 else f"move it into one of {', '.join(FOLDERS)}"
        return Problem(name, 0, "", "lies outside the folders of a configuration", hint)
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
