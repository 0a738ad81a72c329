"""A directory of logs and the source that follows them: appended to, rotated in every way, read, killed, compared."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

from crossdock_agent.sources.base import Draft
from support.source_site import SourceSite

HEADER = b"NO;TEXT\n"
LONG = b"".join(b"%d;%s\n" % (i, b"x" * 60) for i in range(1000, 1010))  # beyond where equal content may be chance
QUICK = {"rotated_seconds": 0, "idle_closes_seconds": 1e9}
Identity = tuple[bytes, int]


class LogSite:
    def __init__(self, base: Path, **settings: Any) -> None:
        self.directory = base / "logs"
        self.directory.mkdir(exist_ok=True)
        self.site = SourceSite(
            "file_tail",
            {
                "directory": str(self.directory), "pattern": "x.log", "format": {"kind": "csv", "delimiter": ";"},
                **QUICK, **settings,
            },
        )  # fmt: skip
        self.seen: list[Draft] = []

    def path(self, name: str = "x.log") -> Path:
        return self.directory / name

    def write(self, data: bytes, name: str = "x.log") -> None:
        """Append; a new file begins with the header."""
        path = self.path(name)
        with path.open("ab") as file:
            file.write(data if file.tell() else HEADER + data)

    def rename(self, name: str = "x.log", to: str = "x.log.1") -> None:
        self.path(name).rename(self.path(to))

    def copy_truncate(self, name: str = "x.log", to: str = "x.log.1") -> None:
        shutil.copyfile(self.path(name), self.path(to))
        with self.path(name).open("r+b") as file:
            file.truncate(0)

    def pack(self, name: str = "x.log.1") -> Path:
        packed = self.path(name + ".gz")
        packed.write_bytes(gzip.compress(self.path(name).read_bytes()))
        self.path(name).unlink()
        return packed

    def read(self, passes: int = 2, advance: float = 0.0, after: int | None = None) -> list[Draft]:
        drafts = self.site.drafts(passes=passes, advance=advance, after=after)
        self.seen += drafts
        return drafts

    def restart(self) -> None:
        self.site.restart()

    def counter(self, name: str) -> int:
        return self.site.counters.snapshot().get(name, 0)


def records(drafts: list[Draft]) -> list[tuple[Identity, bytes]]:
    """Identity and bytes of each record, in the order they were sent."""
    return [
        ((draft.header.origin.unit, draft.header.origin.first_record + i), line)
        for draft in drafts
        for i, line in enumerate(draft.payload.splitlines(keepends=True))
    ]


def lines(drafts: list[Draft]) -> list[bytes]:
    """The records after deduplication, as the controller has them."""
    return [line.rstrip(b"\n") for _, line in dict.fromkeys(records(drafts))]


def units(drafts: list[Draft]) -> list[bytes]:
    """In order of their first batch with records or an end."""
    return list(dict.fromkeys(draft.header.origin.unit for draft in drafts))


def rejects(drafts: list[Draft]) -> list[Any]:
    return [reject for draft in drafts for reject in draft.header.rejects]


def assert_true_to(drafts: list[Draft], contents: dict[bytes, bytes]) -> None:
    """Each batch of a unit stands where it says it stands in the unit's content."""
    for draft in drafts:
        origin, content = draft.header.origin, contents[draft.header.origin.unit]
        before = content[: origin.offset]
        assert content[origin.offset : origin.offset + len(draft.payload)] == draft.payload
        assert origin.first_line == 1 + before.count(b"\n")
        assert origin.first_record == max(0, before.count(b"\n") - draft.header.prefix.count(b"\n"))
        assert content.startswith(draft.header.prefix)
