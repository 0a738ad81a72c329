"""What a change log is to be: the table, its columns, the log beside it, and what of that is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SEQUENCE, OPERATION, TIME, NOTE = "crossdock_seq", "crossdock_op", "crossdock_at", "crossdock_note"
OWN = (SEQUENCE, OPERATION, TIME, NOTE)
PREFIX = "crossdock_"
MAX_NAME = 60  # PostgreSQL cuts names at 63 bytes, MariaDB refuses more than 64 characters
TEMPLATES = 1  # counted up when a template changes, so that an installed one is seen to be of an earlier kind


@dataclass(frozen=True, slots=True)
class Logged:
    """A column of the table; *type* as the log declares it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """*present* are the columns of a log that exists already, with their types; None when there is none. *reader* gets
    its grants."""

    dialect: str
    quote: Callable[[str], str]
    schema: str
    table: str
    log: str
    columns: tuple[Logged, ...]
    key: tuple[str, ...]
    present: Mapping[str, str] | None = None
    reader: str | None = None

    @property
    def base(self) -> str:
        return self.qualified(self.table)

    @property
    def target(self) -> str:
        return self.qualified(self.log)

    @property
    def names(self) -> str:
        """The logged columns, quoted, for a list."""
        return ", ".join(self.quote(column.name) for column in self.columns)

    @property
    def missing(self) -> list[Logged]:
        """Columns that an existing log lacks."""
        present = self.present or {}
        return [column for column in self.columns if column.name.lower() not in present]

    @property
    def altered(self) -> list[Logged]:
        """Columns that an existing log has with another type: a value that fits the table might not fit it."""
        present = self.present or {}
        return [column for column in self.columns if present.get(column.name.lower(), column.type) != column.type]

    @property
    def fingerprint(self) -> str:
        """Stands in each trigger as a comment: whether an installed one is what this plan would install."""
        parts = [str(TEMPLATES), self.dialect, self.schema, self.table, self.log, *self.key]
        parts += [f"{column.name} {column.type}" for column in self.columns]
        return "crossdock " + hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()

    def qualified(self, name: str) -> str:
        return f"{self.quote(self.schema)}.{self.quote(name)}" if self.schema else self.quote(name)

    def images(self, row: str) -> str:
        """The logged columns of *row* (NEW, OLD), for a list."""
        return ", ".join(f"{row}.{self.quote(column.name)}" for column in self.columns)

    def trigger(self, suffix: str) -> str:
        return cut(f"{PREFIX}{self.table}_{suffix}")

    def columns_of(self, what: Sequence[Logged], form: str = "{name} {type} NULL") -> list[str]:
        return [form.format(name=self.quote(column.name), type=column.type) for column in what]


def log_name(table: str) -> str:
    return cut(f"{PREFIX}log_{table}")


def cut(name: str) -> str:
    """*name*, or if it is too long its beginning and a hash of all of it."""
    if len(name.encode()) <= MAX_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return name.encode()[: MAX_NAME - 9].decode(errors="ignore") + "_" + digest
