"""A piece: one batch, read, with every record in one of three places: a row to map, a stray, or left out.

A stray is a record without a usable row: undecodable, refused by the agent, or missing from the payload. Positions
count the records of the batch from 0: those of the payload, then the agent's rejects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import BLANK, SAMPLE_BYTES, Decoded, Fault, Format
from crossdock_controller.mappings.compile import Program
from crossdock_controller.mappings.deletes import ABOUT_THE_RECORD
from crossdock_controller.mappings.fields import AROUND
from crossdock_controller.mappings.tombstones import IGNORED, is_delete, split
from crossdock_controller.mappings.where import trimmed
from crossdock_controller.outcomes import Locator, Outcomes

_BLANK_RECORD = "blank record"
_NOTHING: Mapping[int, str] = {}
_TRAILER = "trailer, its count is right"


@dataclass(slots=True)
class Stray:
    fault: Fault
    records: int = 1
    rows: tuple[dict[str, object], ...] = ()

    @property
    def position(self) -> int:
        return self.fault.position


@dataclass(slots=True)
class Piece:
    out: Outcomes
    header: BatchHeader
    skip: int
    decoded: Decoded
    total: int  # records of the batch, rejects counted
    strays: list[Stray] = field(default_factory=list)  # by position
    left_out: list[tuple[int, str]] = field(default_factory=list)  # position and reason
    gone: Decoded | None = None  # deleted records, which are in none of the others
    fault: tuple[str, str, str] | None = None  # of the header: code, reason, column; then no row can be mapped

    def locator(self, position: int, line: int, row: dict[str, object] | None = None) -> Locator:
        origin = self.header.origin
        return Locator(origin.kind, origin.name, origin.first_record + position, line, self.key_of(row))

    def key_of(self, row: dict[str, object] | None) -> str:
        """`ORDER_NO=4711` for a row of a table."""
        if not row:
            return ""
        return " ".join(f"{name}={trimmed(row.get(name))}" for name in self.header.key_columns)


def read(
    form: Format,
    name: str,
    program: Program,
    header: BatchHeader,
    payload: bytes,
    skip: int,
    out: Outcomes,
    aside: Mapping[int, str] = _NOTHING,
) -> Piece:
    """Decodes one batch. *name* is the format the source declares now; the header says which one wrote the batch.

    Records at the positions of *aside* are not looked at further: strays, for the reason given there.
    """
    if header.format != name:
        return _unreadable(program, header, skip, out, name)
    decoded = form.decode(header, payload, program.columns)
    piece = Piece(out, header, skip, decoded, header.records + len(header.rejects))
    piece.fault = _header_fault(piece.decoded, program)
    for fault in decoded.faults:
        _stray(piece, program, fault)
    for position in decoded.blanks:
        _leave_out(piece, position, _BLANK_RECORD)
    for position in decoded.trailers:
        _leave_out(piece, position, _TRAILER)
    if decoded.count != header.records:
        _reconcile(piece)
    for j in range(len(header.rejects)):
        _stray(piece, program, _refused(form, header, j))
    if aside:
        _set_aside(piece, aside)
    _keep(piece, program)
    piece.strays.sort(key=lambda stray: stray.position)
    piece.left_out.sort()
    return piece


def _unreadable(program: Program, header: BatchHeader, skip: int, out: Outcomes, name: str) -> Piece:
    total = header.records + len(header.rejects)
    nothing = Decoded(program.columns, [], [], [], 0, lambda _position: b"")
    piece = Piece(out, header, skip, nothing, total)
    if total > skip:
        reason = f"the batch was framed as {header.format!r}, the source is now read as {name!r}"
        fault = Fault(skip, header.origin.first_line, "format_changed", reason)
        piece.strays.append(Stray(fault, total - skip))
    return piece


def _header_fault(decoded: Decoded, program: Program) -> tuple[str, str, str] | None:
    if decoded.header_fault is not None:
        return (*decoded.header_fault, "")
    missing = [name for name in program.columns if name not in decoded.columns]
    if not missing:
        faults = (_list_fault(decoded, one) for one in (program, *program.also))
        return next((fault for fault in faults if fault is not None), None)
    doubled = [name for name in missing if any(seen.startswith(f"{name}#") for seen in decoded.columns)]
    said = f"column {doubled[0]} stands more than once" if doubled else f"column {', '.join(missing)} is missing"
    return "header_changed", f"{said}; header seen: {decoded.header_seen or ', '.join(decoded.columns)}", missing[0]


def _list_fault(decoded: Decoded, program: Program) -> tuple[str, str, str] | None:
    """The rows of a child table have columns of their own, which may change as well."""
    name = program.lines_of
    if name is None or name not in decoded.nested or program.lines is None:
        return None
    seen = decoded.nested[name]
    missing = [column for column in program.lines.columns if not column.startswith(AROUND) and column not in seen]
    if not missing:
        return None
    said = f"column {', '.join(missing)} of {name} is missing; columns seen there: {', '.join(seen)}"
    return "header_changed", said, missing[0]


def _refused(form: Format, header: BatchHeader, j: int) -> Fault:
    """A record the agent could not frame; what its first bytes tell may show which group it belongs to."""
    reject = header.rejects[j]
    row = form.glimpse(header, reject.sample)
    return Fault(header.records + j, reject.line, reject.code, reject.reason, sample=reject.sample, row=row)


def _stray(piece: Piece, program: Program, fault: Fault) -> None:
    """A footer is often shorter than a row: `where` is asked of the columns that could be read."""
    if fault.position < piece.skip:
        return
    seen = fault.row | fault.cut
    for test in program.where:
        if test.column in seen and not test.holds([seen[test.column]])[0]:
            _leave_out(piece, fault.position, test.reason)
            return
    piece.strays.append(Stray(fault, rows=(fault.row,) if fault.row else ()))


def _set_aside(piece: Piece, aside: Mapping[int, str]) -> None:
    """Before any condition is asked of them: that may be what they fail in."""
    decoded = piece.decoded
    keep = []
    for i, position in enumerate(decoded.positions):
        if position not in aside:
            keep.append(i)
        elif position >= piece.skip:
            sample = decoded.sample(position)
            fault = Fault(position, decoded.lines[i], "poison", aside[position], sample=sample)
            rows = (decoded.fields(i),) if len(sample) < SAMPLE_BYTES else ()  # a huge one is not stored twice
            piece.strays.append(Stray(fault, rows=rows))
    piece.decoded = decoded.select(keep)


def _leave_out(piece: Piece, position: int, reason: str) -> None:
    if position >= piece.skip:
        piece.left_out.append((position, reason))


def _reconcile(piece: Piece) -> None:
    """The decoder found another number of records than the agent framed: the account follows the agent.

    Too few: the missing ones are dead. Too many: the agent's last record stands for itself and all beyond it, as one
    dead letter that holds them all.
    """
    declared, found = piece.header.records, piece.decoded.count
    reason = f"the agent framed {declared} records, the payload holds {found}"
    if found < declared:
        first = max(found, piece.skip)
        if first < declared:
            piece.strays.append(Stray(Fault(first, _line_at(piece, first), "count_mismatch", reason), declared - first))
        return
    last = max(declared - 1, 0)
    keep = [i for i, position in enumerate(piece.decoded.positions) if position < last]
    beyond = tuple(piece.decoded.fields(i) for i, p in enumerate(piece.decoded.positions) if p >= last)
    piece.decoded = piece.decoded.select(keep)
    piece.strays = [stray for stray in piece.strays if stray.position < last]
    piece.left_out = [entry for entry in piece.left_out if entry[0] < last]
    fault = Fault(last, _line_at(piece, last), "count_mismatch", reason, sample=piece.decoded.sample(last))
    if last >= piece.skip:
        piece.strays.append(Stray(fault, min(declared, 1), beyond))


def _line_at(piece: Piece, position: int) -> int:
    return piece.header.origin.first_line + position if piece.header.origin.kind == "file" else 0


def _keep(piece: Piece, program: Program) -> None:
    """Drops rows before the skip, blank ones, and those `where` leaves out; sets deletes apart."""
    decoded, skip = piece.decoded, piece.skip
    if skip and decoded.positions and decoded.positions[0] < skip:
        decoded = decoded.select([i for i, position in enumerate(decoded.positions) if position >= skip])
    keep: Sequence[int] = range(len(decoded.rows))
    if decoded.objects is None and decoded.columns:
        blank = {i for i in _perhaps_blank(decoded.column(decoded.columns[0])) if _is_blank(decoded.rows[i])}
        for i in sorted(blank):
            _leave_out(piece, decoded.positions[i], _BLANK_RECORD)
        keep = [i for i in keep if i not in blank] if blank else keep
    decoded = decoded if len(keep) == len(decoded.rows) else decoded.select(keep)
    decoded, gone = split(decoded)
    piece.decoded = _wanted(piece, program, decoded)
    if gone is not None:
        _keep_deletes(piece, program, gone)


def _wanted(piece: Piece, program: Program, decoded: Decoded) -> Decoded:
    """The rows for which every condition of `where` holds."""
    keep: Sequence[int] = range(len(decoded.rows))
    for test in program.where:
        if test.column in decoded.columns:
            values = decoded.column(test.column)
        elif test.column in ABOUT_THE_RECORD:
            values = [ABOUT_THE_RECORD[test.column]] * len(decoded.rows)
        else:
            continue
        holds = test.holds(values if len(keep) == len(values) else [values[i] for i in keep])
        if not all(holds):
            for i, held in zip(keep, holds, strict=True):
                if not held:
                    _leave_out(piece, decoded.positions[i], test.reason)
            keep = [i for i, held in zip(keep, holds, strict=True) if held]
    return decoded if len(keep) == len(decoded.rows) else decoded.select(keep)


def _keep_deletes(piece: Piece, program: Program, gone: Decoded) -> None:
    """A condition is asked of a delete only where its column is filled: what is not told must not lose the delete."""
    keep: list[int] = []
    for i in range(len(gone.rows)):
        failed = first_failed(program, gone.fields(i))
        if failed is not None:
            _leave_out(piece, gone.positions[i], failed)
        elif program.deletes_ignored:
            _leave_out(piece, gone.positions[i], IGNORED)
        else:
            keep.append(i)
    piece.gone = gone.select(keep) if keep else None


def first_failed(program: Program, row: dict[str, object]) -> str | None:
    """Why `where` leaves *row* out; None when it does not."""
    for test in program.where:
        value = row.get(test.column, ABOUT_THE_RECORD.get(test.column))
        if value is None and is_delete(row):
            continue
        if not test.holds([value])[0]:
            return test.reason
    return None


def _perhaps_blank(values: Sequence[Any]) -> list[int]:
    """Rows that begin with a blank; the usual answer, none, at a glance."""
    try:
        if all(values) and not any(map(str.isspace, values)):
            return []
    except TypeError:  # not all are texts
        pass
    return [i for i, value in enumerate(values) if _is_blank((value,))]


def _is_blank(row: Sequence[object]) -> bool:
    return not any(value is not None and (not isinstance(value, str) or value.strip(BLANK)) for value in row)
