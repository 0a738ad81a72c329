"""Further documents made of the same records: all of them, or the records are dead as a whole.

The first document of a mapping carries the records in the account; those beside it count none. The id of one beside is
made of the first one's id and its own name, so that it is another, and the same whenever the records are read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import msgspec

from crossdock_controller.documents.base import Document, encode
from crossdock_controller.formats.base import Decoded
from crossdock_controller.mappings.assemble import Failure, Work, assemble, check
from crossdock_controller.mappings.compile import Program
from crossdock_controller.mappings.deletes import ABOUT_THE_RECORD
from crossdock_controller.mappings.rules import KnownKeys
from crossdock_controller.outcomes import Hold, Mapped

_SCOPE = 6  # bytes of an id that name the unit or the table
_ORDINAL = 5  # bytes of an id after them, of a file


class Beside(msgspec.Struct, frozen=True, gc=False):
    """One further document of a record or group."""

    name: str
    kind: str
    document: Document
    warnings: tuple[str, ...]
    version: int
    holds: tuple[Hold, ...] = ()


def add_beside(program: Program, rows: Decoded, work: Work, known: KnownKeys, *, text_only: bool) -> None:
    """Makes the further documents of all of *work* that have no failure; what fails one of them fails the whole."""
    for other in program.also:
        sound = [g for g in range(len(work.documents)) if g not in work.failures]
        taken = _where(other, rows, work, sound)
        if not taken:
            continue
        part = _made(other, rows, work, taken, text_only=text_only)
        check(other, part, known)
        for i, g in enumerate(taken):
            if i in part.failures:
                work.failures[g] = _named(other, part.failures[i], None if other.each else work.firsts[g])
                continue
            found = part.warnings.get(i, ())
            warnings = tuple(text for text in found if text not in work.warnings.get(g, ()))
            holds = tuple(part.holds.get(i, ()))
            one = Beside(other.name, other.entity.__name__, part.documents[i], warnings, other.entity.VERSION, holds)
            work.beside.setdefault(g, []).append(one)


def _where(other: Program, rows: Decoded, work: Work, groups: list[int]) -> list[int]:
    """Those of *groups* whose first record fulfils the conditions."""
    for test in other.where:
        if not groups:
            break
        if test.column in rows.columns:
            column = rows.column(test.column)
            values: list[object] = [column[work.firsts[g]] for g in groups]
        else:
            values = [ABOUT_THE_RECORD.get(test.column)] * len(groups)
        groups = [g for g, held in zip(groups, test.holds(values), strict=True) if held]
    return groups


def _made(other: Program, rows: Decoded, work: Work, taken: Sequence[int], *, text_only: bool) -> Work:
    firsts, lasts = [work.firsts[g] for g in taken], [work.lasts[g] for g in taken]
    if other.each:
        return assemble(other, rows, firsts, lasts, text_only=text_only)
    n = len(taken)
    own = rows if n == len(rows.rows) else rows.select(firsts)
    return assemble(other, own, range(n), range(1, n + 1), text_only=text_only)


def _named(other: Program, failure: Failure, row: int | None) -> Failure:
    """*row* is where the record at fault stands, when the failure does not know."""
    return replace(failure, reason=f"{other.name}: {failure.reason}", row=failure.row if row is None else row)


def with_beside(first: Mapped, beside: Sequence[Beside]) -> Mapped:
    """*first*, and the documents beside it."""
    made = tuple(
        Mapped(
            id_beside(first.event_id, first.locator.kind, one.name), one.kind, one.document.key(), encode(one.document),
            0, first.locator, one.document, one.warnings, one.version, one.holds,
        )
        for one in beside
    )  # fmt: skip
    return msgspec.structs.replace(first, beside=made)


def id_beside(first: bytes, kind: str, name: str) -> bytes:
    """What names the unit and the place in it stays; what tells of the content is another."""
    kept = _SCOPE if kind == "table" else _SCOPE + _ORDINAL
    digest = blake2b(first + name.encode(), digest_size=len(first) - kept).digest()
    return first[:kept] + digest
