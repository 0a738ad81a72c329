"""Points at which a process can be made to die: every write, sync, truncation, rename and removal of one of its files.

A point is (process, call, file name, ordinal): "the 7th sync of outbox.db-wal by the agent". Digits in names are '#',
so that one run numbers as the run before it. `tests/chaos/shim/points.c` counts and kills; this is its other half.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.shim import Shim

_HEADER = struct.Struct("<8sQQIIIIQ")  # struct points of points.c
_SLOTS = 1024
_SIZE = _HEADER.size + _SLOTS * 16
_MOMENTS = {"before": 1, "after": 2}
_FIRED = 8 + 8 + 8 + 4 + 4

# What a call on a file means, by its name: in this order, the first that fits.
_KINDS = (
    ("-wal", {"write": "log write", "sync": "commit", "truncate": "log truncation", "unlink": "log removal"}),
    ("-journal", {"write": "journal write", "sync": "journal sync", "unlink": "commit", "truncate": "commit"}),
    (".db", {"write": "checkpoint write", "sync": "checkpoint sync"}),
    ("", {"write": "file write", "sync": "file sync", "truncate": "truncation", "unlink": "removal"}),
)


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """A call that was counted, in a process called *process*."""

    process: str
    call: str
    name: str
    ordinal: int

    @property
    def kind(self) -> str:
        """What it means for the data: "commit" is the sync of a database's log, or the end of its journal."""
        for suffix, meanings in _KINDS:
            if suffix in self.name and self.call in meanings:
                return meanings[self.call]
        return self.call

    @property
    def key(self) -> int:
        value = 0xCBF29CE484222325
        for text in (self.process, self.call, self.name):
            for byte in (*text.encode(), ord("|")):
                value = (value ^ byte) * 0x100000001B3 % 2**64
        return value


@dataclass(frozen=True, slots=True)
class Point:
    event: Event
    moment: str  # "before" or "after"

    def __str__(self) -> str:
        return f"{self.moment} {self.event.call} {self.event.ordinal} of {self.event.name} by {self.event.process}"


class Machine:
    """The processes of one machine, *name* and its children: they count their points, and die at one of them once.

    *root*: whose files count. *shadow*: where their synced state is kept, for a power cut (see `chaos.power`).
    """

    def __init__(self, shim: Shim, name: str, root: Path, shadow: Path | None = None) -> None:
        self.name, self.root, self.shadow = name, root, shadow
        self._shim = shim
        self._path = shim.directory / f"{name}.points"
        self._path.write_bytes(bytes(_SIZE))
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def environment(self, role: str | None = None) -> dict[str, str]:
        """For a process of this machine. *role*: for one that stands beside NAME and is called NAME-ROLE."""
        made = {**self._shim.environment(self.name), "CROSSDOCK_SHIM_ROOT": str(self.root)}
        if role:
            made["CROSSDOCK_SHIM_ROLE"] = role
        if self.shadow:
            made["CROSSDOCK_SHIM_SHADOW"] = str(self.shadow)
        return made

    def die_at(self, point: Point, *, cut: bool = False) -> None:
        """*cut*: the whole machine stops there; its other processes hang until they are killed (`thaw` after that)."""
        _HEADER.pack_into(
            self._map, 0, b"", point.event.key, point.event.ordinal, _MOMENTS[point.moment], int(cut), 0, 0, 0
        )

    def died(self) -> bool:
        return bool(struct.unpack_from("<I", self._map, _FIRED)[0])

    def thaw(self) -> None:
        struct.pack_into("<I", self._map, _FIRED + 4, 0)

    def events(self) -> list[Event]:
        """In the order in which they were counted."""
        path = self._shim.directory / f"{self.name}.events"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [Event(p, c, n, int(o)) for p, c, n, o in (line.split("\t") for line in lines)]

    def close(self) -> None:
        self._map.close()


def points(events: Iterable[Event]) -> Iterator[Point]:
    """Each event from both sides."""
    for event in events:
        yield Point(event, "before")
        yield Point(event, "after")


def summary(events: Iterable[Event]) -> Counter[tuple[str, str]]:
    return Counter((event.process, event.kind) for event in events)
