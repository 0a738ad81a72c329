"""What runs, as files: byte for byte what was applied, comments and layout with it (newlines are plain ones)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from crossdock.errors import ConfigError, Refused
from crossdock_controller.commands import naming
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import connection, proposals, revisions


@dataclass(frozen=True, slots=True)
class Pulled:
    """*of* is "revision 12", *written* and *same* are files of it; *others* are files of the folder that it lacks: they
    were left alone, and a plan would add them."""

    of: str
    hash: str
    written: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def pull(data: DataDirectory, directory: Path, *, revision: str = "", force: bool = False) -> Pulled:
    """Write the tree in force, or *revision*, to *directory*. Raises Refused, and writes nothing, when files there
    differ, unless *force*; and ConfigError for a name that would lie outside of it."""
    from crossdock_controller.config import tree as trees

    what, tree = tree_of(data, revision)
    unsafe = trees.check(tree)
    if unsafe:
        raise ConfigError(
            f"{what} cannot be written as files: {unsafe[0].text()}", hint="apply a tree without it first"
        )
    directory.mkdir(parents=True, exist_ok=True)
    present, problems = trees.read(directory)
    root = directory.resolve()
    found = Pulled(what, trees.digest(tree), others=[name for name in present if name not in tree])
    differ: list[str] = []
    for name, text in tree.items():
        path = root.joinpath(*name.split("/"))
        if not path.parent.resolve().is_relative_to(root) or path.is_symlink():
            raise ConfigError(
                f"{name} would be written through a link", hint="remove the link, or pull to an empty folder"
            )
        if present.get(name) == text:
            found.same.append(name)
            continue
        if path.exists() or path.is_symlink():
            differ.append(name)
        found.written.append(name)
    if differ and not force:
        names = ", ".join(differ[:10]) + (f" and {len(differ) - 10} more" if len(differ) > 10 else "")
        raise Refused(
            f"{len(differ)} files differ from {what}: {names}",
            hint="commit or remove them, pull to an empty folder, or overwrite them: --force",
        )
    found.others.extend(p.file for p in problems if p.file not in tree)
    for name in found.written:
        _write(root.joinpath(*name.split("/")), tree[name])
    return found


@served
def tree_of(data: DataDirectory, revision: str = "") -> tuple[str, dict[str, str]]:
    """(its name in words, the tree) in force, or of *revision*."""
    with closing(connection.connect(data.state)) as db:
        if revision:
            what = naming.named(db, revision)
        else:
            what = naming.Named(revisions.head_number(db))
            if not what.revision:
                raise ConfigError("there is no revision yet", hint="crossdock apply DIR makes the first")
        tree = proposals.tree(db, what.proposal) if what.proposal else revisions.tree(db, what.revision)
    if tree is None:
        raise ConfigError(f"there is no {what.text}", hint="'crossdock history' lists them")
    return what.text, tree


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
