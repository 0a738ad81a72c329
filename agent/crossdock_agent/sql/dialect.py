"""What a dialect is: everything in which one database differs from another, as data. The tables are in `sql.dialects`.

Every field has the value that is right for most, so that a table says what is particular to its database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

_PAGE = "SELECT {select}\nFROM {source}\nWHERE {where}\nORDER BY {order}\nLIMIT {limit}"


@dataclass(frozen=True, slots=True)
class TypeRule:
    """How a column of one declared type is read and bound; `{c}` is the column, `{t}` its declared type.

    *kind* is the header's type name. *position* is how the column is read when it is part of the cursor (default: as
    *read*), *bind* how a cursor value is handed back.

    Of a type whose values may be too large for the memory, *cap* reads the first `{n}` characters or bytes, and *size*
    (in bytes) is what the database can tell about a value without handing it out.
    """

    kind: str
    read: str = "{c}"
    bind: str = "?"
    position: str = ""
    cap: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    name: str
    quote: str  # around identifiers; its closing form (or itself) doubled inside them
    nulls: Literal["first", "last"]  # where ORDER BY puts NULL
    row_values: bool  # whether `(a, b) > (?, ?)` uses an index on (a, b)
    types: Mapping[str, TypeRule]
    other: TypeRule  # for a declared type that is not in `types`
    session: tuple[str, ...] = ()  # run once after login; filled with the timeouts: see `connections.session_limits`
    options: str = ""  # appended to the connection string: without them values would be bent
    clock: str = ""  # one row: the time in UTC and in the server's zone, as text without a zone
    version: str = ""
    catalog: str = (
        ""  # every ? = table; rows of (schema, table, is_view, column, declared type, nullable), in column order
    )
    indexed: str = ""  # ?, ? = schema, table; rows of the first column of each index
    changes: str = ""  # a value that differs once any transaction has changed anything; empty: the database has none
    snapshot: tuple[str, ...] = ()  # begin a read of several statements that all see one state; ended by COMMIT
    closing: str = ""  # the quote at an identifier's end, where it is another one
    alias: str = " AS s"  # behind the table's name
    page: str = _PAGE
    suffix: str = ""  # ends every SELECT that reads the table
    isolations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # by `connection.isolation`
    folds: bool = False  # texts that differ in capitals, accents or blanks at their end may be equal
    text_as_bytes: bool = (
        False  # texts go as UTF-8: the driver cuts wide ones at a NUL, and bends those it binds in pieces
    )
    driver_timeout: bool = False  # statements are timed by the driver, the server knows no such setting
    min_active: str | None = None  # one row: the lowest rowversion an open transaction may still write; NULL: any above
    # how the columns of a query are found without running it: a statement (? = query; rows of name, declared type,
    # nullable), an expression for the declared type of {c}, or what the driver says of an empty result
    describe: str = ""
    typeof: str = ""
    described: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # Python type: declared type
    nested_with: bool = True  # whether a query that begins with WITH may stand in FROM
    backslashes: bool = False  # whether \ escapes inside a text literal

    def quoted(self, identifier: str) -> str:
        closing = self.closing or self.quote
        return f"{self.quote}{identifier.replace(closing, closing * 2)}{closing}"

    def rule(self, declared: str) -> TypeRule:
        """By the whole declared type (`varchar(max)`), else by its name alone (`decimal(12,2)`)."""
        lower = declared.lower()
        return self.types.get(lower) or self.types.get(lower.partition("(")[0].rstrip(), self.other)


def rules(table: Mapping[str, TypeRule]) -> Mapping[str, TypeRule]:
    """*table* with each name of a key such as `date|time` on its own."""
    return MappingProxyType({name: rule for names, rule in table.items() for name in names.split("|")})
