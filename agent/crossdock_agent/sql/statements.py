"""Every SELECT a table source sends. Columns are always named and qualified, rows always ordered, values always bound.

Qualified, because SQLite takes a double-quoted name it does not find for a string: after a column was dropped,
`SELECT "price"` would go on answering with the word price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossdock_agent.sql.dialects import Dialect, TypeRule, sqlite_kind
from crossdock_agent.sql.queries import as_table

Bound = Sequence[object]  # values of the first cursor columns; rows strictly after it are meant


@dataclass(frozen=True, slots=True)
class TableColumn:
    name: str  # as the header shows it: the spelling of the settings, else the database's
    quoted: str  # s."name"
    declared: str
    kind: str
    nullable: bool
    rule: TypeRule

    @property
    def read(self) -> str:
        return self.rule.read.format(c=self.quoted, t=self.declared)

    def capped(self, cap: int | None) -> str:
        """As *read*, but of a value over *cap* characters or bytes only so many and one more."""
        if cap is None or not self.rule.cap:
            return self.read
        return self.rule.cap.format(c=self.quoted, t=self.declared, n=cap + 1)


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    name: str
    declared: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table as the database's own catalog describes it; or the result of *query*, which then stands in its place."""

    schema: str  # empty when the database has none
    name: str
    is_view: bool
    columns: tuple[CatalogColumn, ...]
    query: str | None = None

    def find(self, name: str) -> CatalogColumn | None:
        """The column of this name; one that differs in case only, when exactly one does."""
        exact = [c for c in self.columns if c.name == name]
        folded = [c for c in self.columns if c.name.lower() == name.lower()]
        return exact[0] if exact else folded[0] if len(folded) == 1 else None


def resolve(dialect: Dialect, column: CatalogColumn, shown: str) -> TableColumn:
    """*column* as it is read and bound in *dialect*, under the name *shown*."""
    rule = _sqlite_rule(column.declared) if dialect.name == "sqlite" else dialect.rule(column.declared)
    quoted = f"s.{dialect.quoted(column.name)}"
    return TableColumn(shown, quoted, column.declared, rule.kind, column.nullable, rule)


def _sqlite_rule(declared: str) -> TypeRule:
    kind = sqlite_kind(declared)
    if kind not in ("text", "binary"):
        return TypeRule(kind)
    return TypeRule(  # only what is too long is cut: substr would make text of any other value. length of a blob or of
        kind,  # text stored as UTF-16 is known without reading it
        cap="CASE WHEN length({c}) > {n} - 1 THEN substr({c}, 1, {n}) ELSE {c} END",
        size="length({c})" if declared.upper() in ("BLOB", "CLOB") else "",
    )


@dataclass(frozen=True, slots=True)
class _Term:
    """One column of the cursor: how it is compared, read and bound."""

    compare: str
    read: str
    bind: str
    nullable: bool


class Statements:
    """The SQL of one table under one cursor: *watermark* (several are coalesced), then the other *key* columns.

    `select` holds the payload columns first; `position` are the indexes of the cursor's columns in a row, some of them
    behind the payload when the cursor needs another form than the payload.
    """

    def __init__(
        self,
        dialect: Dialect,
        table: CatalogTable,
        columns: Sequence[TableColumn],
        watermark: Sequence[TableColumn],
        key: Sequence[TableColumn],
        where: str | None = None,
        cap: int | None = None,
    ) -> None:
        """*cap*: the characters or bytes of a value beyond which only so many and one more are read; never of a column
        of the cursor."""
        self._dialect = dialect
        names = [table.schema, table.name] if table.schema else [table.name]
        named = ".".join(dialect.quoted(n) for n in names) if table.query is None else as_table(table.query)
        self._from = f"{named}{dialect.alias}"
        self._where = f"(\n{where}\n)" if where else ""  # on lines of its own: it may end in a comment
        self.source, self.where = self._from, self._where  # for those who build statements of another shape
        marks = {c.quoted for c in watermark} if len(watermark) == 1 else set()
        self._terms = [_coalesced(watermark), *(_term(c) for c in key if c.quoted not in marks)]
        cursor = {c.quoted for c in (*watermark, *key)}
        reads = [c.read if c.quoted in cursor else c.capped(cap) for c in columns]
        sizes = [c.rule.size.format(c=c.quoted) for c in columns if c.rule.size and c.quoted not in cursor]
        self._size = " + ".join(f"COALESCE({size}, 0)" for size in sizes)
        self.payload = len(reads)
        reads += [t.read for t in self._terms if t.read not in reads]
        self.select = reads
        self.position = tuple(reads.index(t.read) for t in self._terms)

    def page(self, after: Bound | None, limit: int, below: object = None) -> tuple[str, list[object]]:
        """Up to *limit* rows after *after* (None: from the first) in cursor order, with a watermark under *below* where
        that is given. Rows without a watermark are not among them: `unmarked` counts those."""
        return self._page(", ".join(self.select), after, limit, below)

    def sizes(self, after: Bound | None, limit: int, below: object = None) -> tuple[str, list[object]] | None:
        """For each row of that page, the bytes in those of its columns that can hold more than fits the memory. None
        when it has no such column."""
        return self._page(self._size, after, limit, below) if self._size else None

    def _page(self, select: str, after: Bound | None, limit: int, below: object) -> tuple[str, list[object]]:
        first = self._terms[0]
        condition, values = f"{first.compare} IS NOT NULL", list[object]()
        if after is not None:
            condition, values = self._after(after)
        if below is not None:
            condition, values = f"{condition} AND {first.compare} < {first.bind}", [*values, below]
        order = ", ".join(t.compare for t in self._terms)
        where = self._and(condition)
        sql = self._dialect.page.format(select=select, source=self._from, where=where, order=order, limit=limit)
        return sql + self._dialect.suffix, values

    def newest(self) -> str:
        """One row, one value: the greatest watermark, NULL in an empty table."""
        first = self._terms[0]
        newest = first.read.replace(first.compare, f"MAX({first.compare})")
        return self._one(newest, f"{first.compare} IS NOT NULL")

    def unmarked(self, sample: object = None) -> str:
        """One row, one value: how many rows have no watermark at all, and so can never be read.

        In SQLite a column may hold numbers beside text, and every number sorts before every text: there, rows that
        store their watermark otherwise than *sample* are counted as well.
        """
        compare = self._terms[0].compare
        condition = f"{compare} IS NULL"
        if not self._terms[0].nullable and self._dialect.name != "sqlite":
            condition = "1 = 0"  # besides, MariaDB finds a date of zero in a NOT NULL column to be NULL
        if self._dialect.name == "sqlite" and sample is not None:
            like = "'text'" if isinstance(sample, str) else "'integer', 'real'"
            condition = f"({condition} OR typeof({compare}) NOT IN ({like}))"
        return self._one("COUNT(*)", condition)

    def _one(self, select: str, condition: str) -> str:
        return f"SELECT {select}\nFROM {self._from}\nWHERE {self._and(condition)}{self._dialect.suffix}"

    def _and(self, condition: str) -> str:
        return f"{self._where} AND {condition}" if self._where else condition

    def _after(self, bound: Bound) -> tuple[str, list[object]]:
        terms = self._terms[: len(bound)]
        first, rest = terms[0], terms[1:]
        if not rest:
            return f"{first.compare} > {first.bind}", [bound[0]]
        if self._dialect.row_values and not any(t.nullable for t in rest):
            left, right = ", ".join(t.compare for t in terms), ", ".join(t.bind for t in terms)
            return f"({left}) > ({right})", list(bound)
        condition, values = self._beyond(rest, bound[1:])
        return (
            f"{first.compare} >= {first.bind} AND ({first.compare} > {first.bind}"
            f" OR ({first.compare} = {first.bind} AND {condition}))",
            [bound[0], bound[0], bound[0], *values],
        )

    def _beyond(self, terms: Sequence[_Term], bound: Bound) -> tuple[str, list[object]]:
        """Rows after *bound* among equals of everything before; NULL stands where this database sorts it."""
        term, value = terms[0], bound[0]
        greater, values = self._greater(term, value)
        if len(terms) == 1:
            return greater, values
        rest, more = self._beyond(terms[1:], bound[1:])
        same, same_values = (
            (f"{term.compare} IS NULL", []) if value is None else (f"{term.compare} = {term.bind}", [value])
        )
        return f"({greater} OR ({same} AND {rest}))", [*values, *same_values, *more]

    def _greater(self, term: _Term, value: object) -> tuple[str, list[object]]:
        if value is None:
            return (f"{term.compare} IS NOT NULL" if self._dialect.nulls == "first" else "1 = 0"), []
        if term.nullable and self._dialect.nulls == "last":
            return f"({term.compare} > {term.bind} OR {term.compare} IS NULL)", [value]
        return f"{term.compare} > {term.bind}", [value]


def _term(column: TableColumn) -> _Term:
    rule = column.rule
    read = (rule.position or rule.read).format(c=column.quoted, t=column.declared)
    return _Term(column.quoted, read, rule.bind.format(t=column.declared), column.nullable)


def _coalesced(columns: Sequence[TableColumn]) -> _Term:
    first = columns[0]
    if len(columns) == 1:
        return _term(first)
    compare = f"COALESCE({', '.join(c.quoted for c in columns)})"
    read = (first.rule.position or first.rule.read).format(c=compare, t=first.declared)
    return _Term(compare, read, first.rule.bind.format(t=first.declared), nullable=True)
