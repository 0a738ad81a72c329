"""SELECTs by key: ranges of it in the database's own order, and rows named exactly.

Only the database compares keys: it alone knows its collation. A range begins strictly behind one key and ends with
another, both values it gave itself. NULL is a value like others here, standing where this database sorts it; rows whose
first key column is NULL are a segment of their own, because `a > ? OR a IS NULL` would not be read by an index.
"""

from __future__ import annotations

from collections.abc import Sequence

from crossdock_agent.sql.dialects import Dialect
from crossdock_agent.sql.statements import Bound, CatalogTable, Statements, TableColumn, _coalesced, _Term

LOOKUP_KEYS = 50  # keys asked for in one statement


class KeyStatements(Statements):
    """The SQL of one table in the order of *key*; *mark*, a watermark, is read behind what every row has anyway."""

    def __init__(
        self,
        dialect: Dialect,
        table: CatalogTable,
        columns: Sequence[TableColumn],
        key: Sequence[TableColumn],
        mark: Sequence[TableColumn] = (),
        where: str | None = None,
        cap: int | None = None,
    ) -> None:
        super().__init__(dialect, table, columns, key[:1], key[1:], where, cap)
        self.mark: int | None = None  # index of the watermark in a row
        if mark:
            read = _coalesced(mark).read
            if read not in self.select:
                self.select.append(read)
            self.mark = self.select.index(read)

    def ranges(
        self, after: Bound | None, upto: Bound | None, limit: int, *, sizes: bool = False
    ) -> list[tuple[str, list[object]]]:
        """Statements that give, one behind the other, the rows behind *after* (None: from the first) up to and with
        *upto* (None: to the last). All but the last are done once they give fewer than *limit* rows.

        With *sizes* they give what `sizes` does for each of these rows; none when no column can be large."""
        if sizes and not self._size:
            return []
        select = self._size if sizes else ", ".join(self.select)
        conditions = [self._filled(after, upto), self._empty(after, upto)]
        if self._dialect.nulls == "first":
            conditions.reverse()
        return [(self._ordered(select, c[0], limit), c[1]) for c in conditions if c is not None]

    def exact(self, keys: Sequence[Bound]) -> tuple[str, list[object]]:
        """The cursor's columns of rows that the database takes for equal to one of *keys* (its collation may be
        generous: compare again)."""
        values: list[object] = []
        terms = []
        for key in keys:
            same = []
            for term, value in zip(self._terms, key, strict=True):
                same.append(f"{term.compare} IS NULL" if value is None else f"{term.compare} = {term.bind}")
                values += [] if value is None else [value]
            terms.append(f"({' AND '.join(same)})")
        reads = [self.select[i] for i in self.position]
        where = self._and("(" + " OR ".join(terms) + ")")
        return f"SELECT {', '.join(reads)}\nFROM {self._from}\nWHERE {where}{self._dialect.suffix}", values

    def _ordered(self, select: str, condition: str, limit: int) -> str:
        where, order = self._and(condition or "1 = 1"), ", ".join(t.compare for t in self._terms)
        page = self._dialect.page.format(select=select, source=self._from, where=where, order=order, limit=limit)
        return page + self._dialect.suffix

    def _filled(self, after: Bound | None, upto: Bound | None) -> tuple[str, list[object]] | None:
        """Rows whose first column is not NULL; None when the range has none of them."""
        nulls_first = self._dialect.nulls == "first"
        if after is not None and after[0] is None:
            if not nulls_first:
                return None
            after = None
        if upto is not None and upto[0] is None:
            if nulls_first:
                return None
            upto = None
        parts: list[tuple[str, list[object]]] = []
        if after is not None:
            parts.append(self._after(after))
        elif self._terms[0].nullable and upto is None:
            parts.append((f"{self._terms[0].compare} IS NOT NULL", []))
        if upto is not None:
            parts.append(self._upto(upto))
        return " AND ".join(p[0] for p in parts), [v for p in parts for v in p[1]]

    def _empty(self, after: Bound | None, upto: Bound | None) -> tuple[str, list[object]] | None:
        """Rows whose first column is NULL; None when the range has none of them."""
        first, rest = self._terms[0], self._terms[1:]
        if not first.nullable:
            return None
        near = after if self._dialect.nulls == "first" else upto
        if near is not None and near[0] is not None:  # they stand on the far side of it
            return None
        parts: list[tuple[str, list[object]]] = [(f"{first.compare} IS NULL", [])]
        if after is not None and after[0] is None:
            parts.append(self._beyond(rest, after[1:]) if rest else ("1 = 0", []))
        if upto is not None and upto[0] is None and rest:
            parts.append(self._within(rest, upto[1:]))
        return " AND ".join(p[0] for p in parts), [v for p in parts for v in p[1]]

    def _upto(self, bound: Bound) -> tuple[str, list[object]]:
        first, rest = self._terms[0], self._terms[1:]
        if not rest:
            return f"{first.compare} <= {first.bind}", [bound[0]]
        if self._dialect.row_values and not any(t.nullable for t in rest):
            left, right = ", ".join(t.compare for t in self._terms), ", ".join(t.bind for t in self._terms)
            return f"({left}) <= ({right})", list(bound)
        condition, values = self._within(rest, bound[1:])
        return (
            f"{first.compare} <= {first.bind} AND ({first.compare} < {first.bind}"
            f" OR ({first.compare} = {first.bind} AND {condition}))",
            [bound[0], bound[0], bound[0], *values],
        )

    def _within(self, terms: Sequence[_Term], bound: Bound) -> tuple[str, list[object]]:
        """Rows up to *bound* among equals of everything before."""
        term, value = terms[0], bound[0]
        less, values = self._less(term, value)
        same, same_values = (
            (f"{term.compare} IS NULL", []) if value is None else (f"{term.compare} = {term.bind}", [value])
        )
        if len(terms) == 1:
            return f"({less} OR {same})", [*values, *same_values]
        rest, more = self._within(terms[1:], bound[1:])
        return f"({less} OR ({same} AND {rest}))", [*values, *same_values, *more]

    def _less(self, term: _Term, value: object) -> tuple[str, list[object]]:
        if value is None:
            return (f"{term.compare} IS NOT NULL" if self._dialect.nulls == "last" else "1 = 0"), []
        if term.nullable and self._dialect.nulls == "first":
            return f"({term.compare} < {term.bind} OR {term.compare} IS NULL)", [value]
        return f"{term.compare} < {term.bind}", [value]
