"""What is asked of a preview, and what it tells. Results of parts add up to that of the whole."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["added", "changed", "removed", "newly dead", "newly healed"]
SAMPLES = 3  # of a changed field
SHOWN_CHANGES = 20
MOST_CHANGES = 10_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """*tree* is the proposed one, as it is in *environment*; *changes* are so many to tell one by one."""

    tree: dict[str, str]
    environment: str
    changes: int = SHOWN_CHANGES


class Task(msgspec.Struct, frozen=True):
    """Batches of a stream, from one sequence to another, both with it."""

    stream_id: int
    first: int
    last: int


class FieldChange(msgspec.Struct, frozen=True):
    """As JSON texts; None where there was nothing."""

    field: str
    before: str | None
    after: str | None


class DocumentChange(msgspec.Struct, frozen=True):
    """*reason*: why it is dead, or was."""

    kind: Kind
    site: str
    source: str
    document: str
    key: str
    where: str
    fields: tuple[FieldChange, ...] = ()
    reason: str = ""


class FieldCount(msgspec.Struct):
    """How many documents of *document* have another value at *field* (`lines[].sku`: in any line), and some of them."""

    document: str
    field: str
    count: int = 0
    samples: list[FieldChange] = []


class SourceCount(msgspec.Struct):
    """Of one source at one site. *before* and *after* are documents; dead and ignored are records; *open* are records
    of a group that has not ended; *unread* are records of damaged batches."""

    site: str
    source: str
    records: int = 0
    before: int = 0
    after: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    newly_dead: int = 0
    newly_healed: int = 0
    dead_before: int = 0
    dead_after: int = 0
    ignored_before: int = 0
    ignored_after: int = 0
    open: int = 0
    unread: int = 0

    def add(self, other: SourceCount) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_COUNTS = tuple(name for name in SourceCount.__struct_fields__ if name not in ("site", "source"))


class Result(msgspec.Struct):
    """*problems* are failures of a mapping: nothing is known of those batches."""

    sources: list[SourceCount] = []
    fields: list[FieldCount] = []
    changes: list[DocumentChange] = []
    problems: list[str] = []

    def add(self, other: Result, most: int) -> None:
        for found in other.sources:
            self.source(found.site, found.source).add(found)
        for counted in other.fields:
            mine = self.field(counted.document, counted.field)
            mine.count += counted.count
            mine.samples = (mine.samples + counted.samples)[:SAMPLES]
        self.changes += other.changes[: max(0, most - len(self.changes))]
        self.problems += [problem for problem in other.problems if problem not in self.problems]

    def source(self, site: str, source: str) -> SourceCount:
        found = next((s for s in self.sources if (s.site, s.source) == (site, source)), None)
        if found is None:
            found = SourceCount(site, source)
            self.sources.append(found)
        return found

    def field(self, document: str, field: str) -> FieldCount:
        found = next((f for f in self.fields if (f.document, f.field) == (document, field)), None)
        if found is None:
            found = FieldCount(document, field)
            self.fields.append(found)
        return found
