"""What lies in a directory now. An answer is complete or it is an error: an unreachable share is never an empty one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossdock.errors import SourceUnavailable
from crossdock_agent.drops.identity import Signature, signature
from crossdock_agent.drops.markers import Markers
from crossdock_agent.drops.patterns import Pattern, Places, matcher

MAX_DEPTH = 64  # directories below one another: a loop that no rule above caught ends here
CLAIMS = ".crossdock-claimed-"  # directories of this name hold what some agent has claimed
_JUNCTION = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0x400)


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


@dataclass(slots=True)
class Names:
    """Names of files that match, and of markers, as `Markers` compares them. Names alone: there may be 100,000."""

    files: list[str] = field(default_factory=list)
    markers: set[str] = field(default_factory=set)


class Listing:
    """Files in *root* whose paths match *pattern* and whose names match none of *ignore*. *archive* is never entered,
    nor is what links to another directory: a loop of links has no end. *recursive* is `**/` before the pattern."""

    def __init__(
        self,
        root: Path,
        pattern: str,
        ignore: Sequence[str],
        archive: Path | None,
        *,
        recursive: bool,
        markers: Markers | None = None,
    ) -> None:
        self.root = root
        self.pattern = pattern
        self._pattern = Pattern(f"**/{pattern}" if recursive else pattern)
        self._unwanted = matcher(ignore)
        self._archive = _comparable(archive) if archive is not None else ""
        self._markers = markers

    def files(self) -> Iterator[Found]:
        """By name. Raises SourceUnavailable."""
        for name in self.names().files:
            found = self.find(name)
            if found is not None:
                yield found

    def names(self) -> Names:
        """By name. Raises SourceUnavailable."""
        names = Names()
        self._collect(names, str(self.root), "", self._pattern.start, MAX_DEPTH)
        names.files.sort()
        return names

    def find(self, name: str) -> Found | None:
        """The file as it is now; None for what is gone or no file. Raises SourceUnavailable."""
        return look(name, self.location(name))

    def location(self, name: str) -> str:
        return os.path.join(self.root, name.replace("/", os.sep))  # noqa: PTH118 - for every file at every pass

    def _collect(self, names: Names, directory: str, below: str, places: Places, depth: int) -> None:
        deeper: list[tuple[str, str, Places]] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = entry.name
                    if self._markers is not None and self._markers.is_marker(name):
                        names.markers.add(self._markers.comparable(below + name))
                    elif self._unwanted(name) or name.startswith(CLAIMS):
                        continue
                    elif entry.is_dir(follow_symlinks=False):
                        into = self._pattern.enter(places, name)
                        if into and _is_real(entry) and _comparable(Path(entry.path)) != self._archive:
                            deeper.append((entry.path, below + name + "/", into))
                    elif self._pattern.is_file(places, name) and (entry.is_symlink() or entry.is_file()):
                        names.files.append(below + name)
        except FileNotFoundError as error:
            if below:  # removed since its parent was listed
                return
            raise unavailable(Path(directory), error) from error
        except OSError as error:
            raise unavailable(Path(directory), error) from error
        for path, name, into in deeper if depth else ():
            self._collect(names, path, name, into, depth - 1)


def look(name: str, path: str) -> Found | None:
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


def _is_real(entry: os.DirEntry[str]) -> bool:
    """Not a junction: Windows shows one as a directory of its own."""
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
    return not attributes & _JUNCTION


def _comparable(path: Path) -> str:
    return os.path.normcase(path.absolute())
