"""A machine's disk after a power cut: what was synced is there, what was not may be there or not.

A kill loses nothing that was written; a power cut does. The shim keeps, for each file, its content at its last sync,
and for each directory its entries at its last sync (`shim/power.c`); here the disk is put back to that. A file system
may have written more by itself, so both ends of what is possible are tried: "strict", where a created, renamed or
removed name counts only once its directory was synced, and "named", where names are kept and only contents are lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

OUTCOMES = ("strict", "named")


def identity(path: Path) -> str:
    """As in power.c. Python has no statx: coreutils' stat has. A tmpfs knows no birth, and uses no inode again."""
    return identities([path])[0]


def identities(paths: list[Path]) -> list[str]:
    if not paths:
        return []
    done = subprocess.run(["stat", "-c", "%i %.W", "--", *map(str, paths)], capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        inode, born = line.split()
        seconds, _, part = born.partition(".")
        found.append(f"{inode}-{seconds if seconds != '-' else 0}.{part.ljust(9, '0')[:9]}")
    return found


class Shadow:
    """The synced state of the files below *root*, kept in *directory*, which is emptied and filled from the disk."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.directory, self._root = directory, root
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "inodes").mkdir(parents=True)
        (directory / "entries").mkdir()
        paths = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        known = dict(zip(paths, identities(paths), strict=True))
        for path, name in known.items():
            shutil.copyfile(path, directory / "inodes" / name)
        folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
        for number, folder in enumerate(folders):
            self._list(folder, {p.name: name for p, name in known.items() if p.parent == folder}, f"0-{number:06}")

    def add(self, path: Path) -> None:
        """*path* was written by somebody else on that machine, who saw to it that it stays."""
        name = identity(path)
        shutil.copyfile(path, self.directory / "inodes" / name)
        latest = max((p.name for p in (self.directory / "entries").iterdir()), default="0")
        listed = self._listings().get(str(path.parent), {})
        self._list(path.parent, {**listed, path.name: name}, f"{latest}+")

    def restore(self, outcome: str) -> list[str]:
        """Puts the disk back to it; the files that changed by that, "path: old size -> new size"."""
        wanted = self._wanted(outcome)
        changed = []
        for path in sorted(p for p in self._root.rglob("*") if p.is_file()):
            if path not in wanted or path.name.endswith("-shm"):
                changed.append(f"{path.relative_to(self._root)}: {path.stat().st_size} -> gone")
                path.unlink()
        for path, content in wanted.items():
            before = path.read_bytes() if path.exists() else None
            if before == content or path.name.endswith("-shm"):
                continue
            old = "gone" if before is None else len(before)
            changed.append(f"{path.relative_to(self._root)}: {old} -> {len(content)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        return changed

    def _wanted(self, outcome: str) -> dict[Path, bytes]:
        if outcome == "strict":
            named = {Path(folder) / n: i for folder, names in self._listings().items() for n, i in names.items()}
        else:
            paths = [p for p in self._root.rglob("*") if p.is_file()]
            named = dict(zip(paths, identities(paths), strict=True))
        return {path: self._content(name) for path, name in named.items()}

    def _content(self, name: str) -> bytes:
        kept = self.directory / "inodes" / name
        return kept.read_bytes() if kept.exists() else b""  # never synced: the name may be there, its content is not

    def _listings(self) -> dict[str, dict[str, str]]:
        """The last one of each directory."""
        found: dict[str, dict[str, str]] = {}
        for path in sorted((self.directory / "entries").iterdir(), key=lambda p: p.name):
            folder, *names = path.read_text("utf-8").splitlines()
            found[folder.rstrip("/")] = dict(line.split("\t") for line in names)
        return found

    def _list(self, folder: Path, names: dict[str, str], number: str) -> None:
        lines = [str(folder), *(f"{name}\t{identity_}" for name, identity_ in names.items())]
        (self.directory / "entries" / number).write_text("\n".join(lines) + "\n", "utf-8")
