"""What becomes of each record of a batch. Every record has exactly one outcome; the account is their sum.

The vocabulary between the pure half (formats, mappings, documents, rules: bytes in, outcomes out) and the half that
persists (normalize, store).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class Locator(msgspec.Struct, frozen=True, gc=False):
    """Where a person finds the record: file and line, or table and key."""

    kind: str  # "file" or "table"
    name: str
    record: int  # ordinal of the first record within its unit, from 0
    line: int = 0  # from 1; 0 for a table, and for a file whose records are not lines
    key: str = ""  # "ORDER_NO=4711" for a table

    def text(self) -> str:
        """A record that is no line of its file is counted from 1."""
        if self.kind == "file":
            return f"{self.name} line {self.line}" if self.line else f"{self.name} record {self.record + 1}"
        return f"{self.name} {self.key}".rstrip()


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Why a document waits for a person. *waits* are the (document, key) of masters that it refers to and that nobody
    sent yet: when the last of them comes, this reason is gone. A reason without any is for a person alone."""

    code: str
    field: str
    reason: str
    waits: tuple[tuple[str, str], ...] = ()


class Mapped(msgspec.Struct, frozen=True, gc=False):
    """*records* consecutive records became one version of one document."""

    event_id: bytes
    document: str
    key: str
    body: bytes  # the document as JSON
    records: int
    locator: Locator
    fields: msgspec.Struct  # the document itself, for routing
    warnings: tuple[str, ...] = ()
    version: int = 1  # of its entity
    holds: tuple[Hold, ...] = ()  # it is an event, but goes nowhere before these are settled
    beside: tuple[Mapped, ...] = ()  # further documents of the same records, which count no records themselves

    def all(self) -> tuple[Mapped, ...]:
        """It, and the documents beside it."""
        return (self, *self.beside)


class Dead(msgspec.Struct, frozen=True):
    """*records* consecutive records cannot become a document as they are."""

    code: str
    reason: str
    field: str
    records: int
    locator: Locator
    sample: bytes  # raw bytes, at most 4 KiB, for the eyes of a person
    rows: tuple[dict[str, object], ...] = ()  # decoded records by field, when they could be decoded; correctable
    list: str = ""  # of a code without a meaning (`unknown_code`): the code list that lacks it, if it has a name
    value: str = ""  # ... and the code


class Ignored(msgspec.Struct, frozen=True):
    """Records that the mapping says are no documents: blank lines, footers, rows that `where` leaves out."""

    records: int
    reason: str


@dataclass(slots=True)
class Outcomes:
    mapped: list[Mapped] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    # Records at the end of the batch whose group is still open: they belong to the next round.
    open_records: int = 0
    holding: bool = False  # whether any of *mapped* has holds: so that nobody looks at each to find none

    def records(self) -> int:
        return (
            sum(m.records for m in self.mapped)
            + sum(d.records for d in self.dead)
            + sum(i.records for i in self.ignored)
            + self.open_records
        )
