"""The mapping engine: batches in, one outcome for each of their records out.

No I/O, no clock, and nothing remembered between two runs that could change an outcome: the same records give the same
outcomes and event ids, however they were cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Reasons
from zoneinfo import ZoneInfo

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.documents.base import encode
from crossdock_controller.formats.base import Decoded, Fault, FormatSettings, create
from crossdock_controller.mappings.assemble import Failure, Work, assemble, at, check
from crossdock_controller.mappings.beside import add_beside, with_beside
from crossdock_controller.mappings.codes import Codes, Coding
from crossdock_controller.mappings.compile import compile_mapping
from crossdock_controller.mappings.emit import Emitter, sample_of
from crossdock_controller.mappings.fields import AROUND, Site
from crossdock_controller.mappings.grouping import Group, Groups, Segment, group, key_in, segments
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.mappings.reading import Piece, Stray, first_failed, read
from crossdock_controller.mappings.rules import KnownKeys, Lookup
from crossdock_controller.mappings.tombstones import IGNORED, UNMAPPED, is_delete, made, refused
from crossdock_controller.outcomes import Dead, Locator, Mapped, Outcomes


class Engine:
    """Maps the records of one source of one site. Used from one thread; remembers conversions by value, no outcomes."""

    def __init__(
        self,
        site: str,
        source: str,
        zone: str,
        format_settings: FormatSettings,
        mapping: Mapping,
        revision: int,
        codes: Codes | None = None,
    ) -> None:
        """*zone* is the site's IANA zone, *revision* that of the configuration the mapping is from; *codes* are asked
        what the codes of its lists mean.

        Raises ConfigError for a mapping with problems.
        """
        self.revision = revision
        self._document = mapping.document
        self._coding = Coding(codes)
        self._program = compile_mapping(mapping, Site(site, source, ZoneInfo(zone)), self._coding)
        self._format_name = format_settings.kind
        self._format = create(format_settings)
        self._emitter = Emitter(site, source, mapping.document, self._format)

    @property
    def codes(self) -> Codes:
        """Who is asked what the codes of lists mean; may be replaced between two runs."""
        return self._coding.codes

    @codes.setter
    def codes(self, codes: Codes) -> None:
        self._coding.codes = codes

    @property
    def grouped(self) -> bool:
        """Whether several records make one document: then a later part of it in the same file would replace it."""
        return bool(self._program.each)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the mapping reads: `remap` needs each of them in every row."""
        return tuple(self._program.columns)

    @property
    def line_columns(self) -> tuple[str, ...]:
        """The columns that the mapping reads of each element of a list inside the record."""
        lines = self._program.lines
        if lines is None or self._program.lines_of is None:
            return ()
        return tuple(name for name in lines.columns if not name.startswith(AROUND))

    @property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """By field of the document (`lines.sku` for one of its lines): the columns that its value is made of."""
        lines = self._program.lines.reads if self._program.lines is not None else {}
        return self._program.header.reads | {f"lines.{name}": columns for name, columns in lines.items()}

    @property
    def list_column(self) -> str:
        """The column whose elements are the lines; empty when lines are records or there are none."""
        return self._program.lines_of or ""

    def run(
        self,
        batches: Sequence[tuple[BatchHeader, bytes, int]],
        lookup: Lookup,
        *,
        cap_reached: bool = False,
        aside: Sequence[Reasons[int, str]] = (),
    ) -> list[Outcomes]:
        """One Outcomes a batch, in order. *batches* are contiguous batches of one stream, each with the number of
        records to skip at its start (decided in an earlier run).

        A group is in the Outcomes of the batch of its first record, with all its records. The last group stays open
        unless its unit ended, with everything after its first record; *cap_reached* says that it must not wait longer.
        *aside*: for each batch, records by position that are not to be mapped, and why; they are dead.
        """
        self._coding.begin()
        outcomes = [Outcomes() for _ in batches]
        known = KnownKeys(lookup)
        pieces = [
            read(self._format, self._format_name, self._program, header, payload, skip, out, left)
            for (header, payload, skip), out, left in zip(batches, outcomes, aside or [{}] * len(batches), strict=True)
        ]
        for segment in segments(pieces, grouped=bool(self._program.each)):
            if self._program.each:
                self._run_groups(segment, known, cap_reached=cap_reached)
            else:
                self._run_records(segment, known)
        return outcomes

    def remap(
        self, rows: list[dict[str, object]], locator: Locator, lookup: Lookup, *, unit: bytes = b""
    ) -> Mapped | Dead:
        """Maps the *rows* of a dead letter, corrected by hand, by the current mapping.

        Unchanged rows give the id that their batch gives when *unit* is that of its origin; changed rows give another.
        Every column that the mapping reads must be in each row: what a damaged record lost has to be supplied.
        """
        self._coding.begin()
        program = self._program
        failure = self._unfit(rows)
        work = Work([], [], [])
        if failure is None and is_delete(rows[0]) and program.deletes is not None:
            work = made(program.deletes, _decoded(program.columns, rows))
            failure = work.failures.get(0)
        elif failure is None:
            decoded, known = _decoded(program.columns, rows), KnownKeys(lookup)
            work = self._assemble(decoded, [0], [len(rows)], text_only=False)
            check(program, work, known)
            add_beside(program, decoded, work, known, text_only=False)
            failure = work.failures.get(0)
        if failure is not None:
            return Dead(
                failure.code, failure.reason, failure.field, len(rows), locator, sample_of(rows), tuple(rows),
                failure.list, failure.value,
            )  # fmt: skip
        document = work.documents[0]
        scope = unit if locator.kind == "file" and unit else locator.name.encode()
        event_id = self._emitter.event_id(locator, scope, rows)
        first = Mapped(
            event_id,
            self._document,
            document.key(),
            encode(document),
            len(rows),
            locator,
            document,
            tuple(work.warnings.get(0, ())),
            self._program.entity.VERSION,
            tuple(work.holds.get(0, ())),
        )
        return with_beside(first, work.beside[0]) if work.beside else first

    def _unfit(self, rows: Sequence[dict[str, object]]) -> Failure | None:
        """Why corrected *rows* are not the records of one document."""
        program = self._program
        if not rows:
            return Failure("missing_column", "there is no record to map", "")
        for i, row in enumerate(rows, start=1):
            missing = [name for name in program.columns if name not in row]
            if missing:
                return Failure(
                    "missing_column", f"record {i} has no {', '.join(missing)}: set it, or discard", missing[0]
                )
            failed = first_failed(program, row)
            if failed is not None:
                return Failure("left_out", f"record {i} is {failed}; discard it", "")
            if is_delete(row) and program.deletes_ignored:
                return Failure("left_out", f"record {i} was {IGNORED}; discard it", "")
            if is_delete(row) and program.deletes is None:
                return UNMAPPED
        keys = {key_in(row, program.each) for row in rows}
        if program.each and keys == {None}:
            return Failure("group_key_blank", "the record names no group", ", ".join(program.each))
        if len(keys) > 1 or (len(rows) > 1 and not program.each):
            return Failure("group_scattered", "the records do not belong to one document", ", ".join(program.each))
        return None

    def _assemble(self, rows: Decoded, firsts: Sequence[int], lasts: Sequence[int], *, text_only: bool) -> Work:
        return assemble(self._program, rows, firsts, lasts, text_only=text_only)

    def _run_records(self, segment: Segment, known: KnownKeys) -> None:
        """Each record is a document."""
        piece = segment.pieces[0]
        rows = piece.decoded
        n = len(rows.rows)
        if piece.fault is None:
            work = self._assemble(rows, range(n), range(1, n + 1), text_only=self._format.text_only)
            check(self._program, work, known)
            add_beside(self._program, rows, work, known, text_only=self._format.text_only)
        else:
            work = Work([None] * n, range(n), range(1, n + 1), dict.fromkeys(range(n), Failure(*piece.fault)))
        self._emitter.documents(segment, rows, work)
        self._emitter.loners(segment, [(stray.position, stray) for stray in piece.strays], None)
        self._emitter.left_out(segment, None)
        if piece.gone is not None:
            self._run_deletes(segment, piece, piece.gone)

    def _run_deletes(self, segment: Segment, piece: Piece, rows: Decoded) -> None:
        """Each deleted record is a document that says so, in its place among the others."""
        if piece.fault is not None:
            work = refused(rows, Failure(*piece.fault))
        elif self._program.deletes is None:
            work = refused(rows, UNMAPPED)
        else:
            work = made(self._program.deletes, rows)
        self._emitter.documents(segment, rows, work)
        piece.out.mapped.sort(key=lambda mapped: mapped.locator.record)
        piece.out.dead.sort(key=lambda dead: dead.locator.record)

    def _run_groups(self, segment: Segment, known: KnownKeys, *, cap_reached: bool) -> None:
        """Each group of records is a document."""
        groups = group(segment, self._program.each)
        rows = groups.rows
        waiting = groups.open_group
        if cap_reached and groups.open_from is not None:
            groups.closed.extend([waiting] if waiting else [])
            groups.open_from = None
        work = self._map_groups(segment, groups, waiting, known)
        self._emitter.documents(segment, rows, work, groups.closed)
        self._emitter.loners(segment, [*groups.loners, *_deleted(segment)], groups.open_from)
        self._emitter.left_out(segment, groups.open_from)
        if groups.open_from is not None:
            for base, piece in zip(segment.bases, segment.pieces, strict=True):
                piece.out.open_records = max(0, piece.total - max(groups.open_from - base, piece.skip))

    def _map_groups(self, segment: Segment, groups: Groups, waiting: Group | None, known: KnownKeys) -> Work:
        rows, closed = groups.rows, groups.closed
        firsts, lasts = [entry.first for entry in closed], [entry.last for entry in closed]
        work = Work([None] * len(closed), firsts, lasts)
        for i, entry in enumerate(closed):
            failure = self._group_failure(segment, entry, too_long=entry is waiting)
            if failure is not None:
                work.failures[i] = failure
        usable = [i for i in range(len(closed)) if i not in work.failures]
        part = self._assemble(
            rows, [firsts[i] for i in usable], [lasts[i] for i in usable], text_only=self._format.text_only
        )
        check(self._program, part, known)
        add_beside(self._program, rows, part, known, text_only=self._format.text_only)
        work.beside = {usable[g]: others for g, others in part.beside.items()}
        for g, i in enumerate(usable):
            work.documents[i] = part.documents[g]
        work.failures |= {usable[g]: failure for g, failure in part.failures.items()}
        work.warnings = {usable[g]: texts for g, texts in part.warnings.items()}
        work.holds = {usable[g]: found for g, found in part.holds.items()}
        return work

    def _group_failure(self, segment: Segment, entry: Group, *, too_long: bool) -> Failure | None:
        """Why *entry* cannot be mapped, whatever its fields say."""
        each = ", ".join(self._program.each)
        name = f"{each} {' '.join(entry.key)}"
        header_fault = segment.pieces[0].fault
        if header_fault is not None:
            return Failure(*header_fault)
        if entry.strays:
            fault = entry.strays[0][1].fault
            return Failure(fault.code, f"{at(fault.line)}{fault.reason}", fault.column)
        if too_long:
            return Failure("group_too_long", f"{name} is still open after {entry.records} records", each)
        if entry.neighbour is not None:
            beside = entry.neighbour.fault
            said = f"{at(beside.line)}{beside.reason}"
            return Failure("group_uncertain", f"{name}: a record beside it may be one of its lines: {said}", each)
        if entry.scattered:
            return Failure("group_scattered", f"{name} began earlier, and other records stand between", each)
        return None


def _deleted(segment: Segment) -> Iterator[tuple[int, Stray]]:
    """Deleted records of a grouped source: what a deleted line means for its document is not known."""
    for base, piece in zip(segment.bases, segment.pieces, strict=True):
        rows = piece.gone
        for i, position in enumerate(rows.positions if rows is not None else ()):
            assert rows is not None  # noqa: S101 - there are none without
            fault = Fault(position, rows.lines[i], UNMAPPED.code, UNMAPPED.reason, sample=rows.sample(position))
            yield base + position, Stray(fault, rows=(rows.fields(i),))


def _decoded(columns: tuple[str, ...], rows: list[dict[str, object]]) -> Decoded:
    """Rows given by column name, as if they had been read."""
    return Decoded(
        columns=columns,
        rows=[[row[name] for name in columns] for row in rows],
        positions=range(len(rows)),
        lines=[0] * len(rows),
        count=len(rows),
        sample=lambda position: sample_of([rows[position]]),
        objects=rows,
    )
