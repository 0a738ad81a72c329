"""What lies in a directory now. An answer is complete or it is an error: an unreachable share is never an empty one."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import SourceUnavailable
from crossdock_agent.drops.identity import Signature, signature


@dataclass(frozen=True, slots=True)
class Found:
    """A file that matches. *name* is its path under the directory with forward slashes; bytes of the file system that
    are no text stand in it as surrogates."""

    name: str
    location: str
    signature: Signature

    @property
    def path(self) -> Path:
        return Path(self.location)


class Listing:
    """Files in *root* whose names match *pattern* and none of *ignore*. *archive* is never entered."""

    def __init__(self, root: Path, pattern: str, ignore: Sequence[str], archive: Path, *, recursive: bool) -> None:
        self.root = root
        self.pattern = pattern
        self._wanted = _matcher((pattern,))
        self._unwanted = _matcher(ignore)
        self._archive = archive
        self._recursive = recursive

    def files(self) -> Iterator[Found]:
        """By name. Raises SourceUnavailable."""
        return self._files(self.root, "")

    def _files(self, directory: Path, below: str) -> Iterator[Found]:
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError as error:
            if below:  # removed since its parent was listed
                return
            raise unavailable(directory, error) from error
        except OSError as error:
            raise unavailable(directory, error) from error
        for entry in listed:
            name = below + entry.name
            if self._unwanted(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if self._recursive and not _same(Path(entry.path), self._archive):
                    yield from self._files(Path(entry.path), name + "/")
            elif self._wanted(entry.name) and (found := _file(name, entry.path)):
                yield found


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name matches any of *patterns*, by the case rules of the platform."""
    expression = re.compile("|".join(fnmatch.translate(os.path.normcase(pattern)) for pattern in patterns) or r"(?!)")
    return lambda name: expression.match(os.path.normcase(name)) is not None


def _file(name: str, path: str) -> Found | None:
    """None for what is gone or no file. Raises SourceUnavailable. Runs for every file at every pass: no Path here."""
    try:
        seen = os.stat(path)  # noqa: PTH116 - DirEntry.stat knows no file id on Windows and may be behind
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):  # of this file alone; opening it will say so
            return Found(name, path, Signature(0, 0, 0, 0))
        raise unavailable(Path(path), error) from error
    return Found(name, path, signature(seen)) if stat.S_ISREG(seen.st_mode) else None


def display(name: str) -> str:
    """*name* for people and for the wire: bytes that are no text as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def unavailable(path: Path, error: OSError) -> SourceUnavailable:
    """The error for *path*, with what an operator does about it."""
    if isinstance(error, FileNotFoundError):
        hint = "create it, correct 'directory', or mount the share"
    elif isinstance(error, PermissionError):
        hint = "give the account the agent runs under access to it"
    elif isinstance(error, NotADirectoryError):
        hint = "'directory' must name a directory, this is a file"
    else:
        hint = "is the share or disk connected?"
    return SourceUnavailable(f"{display(str(path))} cannot be reached: {error.strerror or error}", hint=hint)


def _same(a: Path, b: Path) -> bool:
    return os.path.normcase(a.absolute()) == os.path.normcase(b.absolute())
