"""Outcomes from documents: event ids, bodies, locators; dead letters with their rows. One outcome for every record.

Event ids (16 bytes): for a file blake2b-6(site, source, unit) + 5 bytes ordinal of the first record +
blake2b-5(content); for a table blake2b-6(site, source, table) + blake2b-10(content). The content of a record is what
its format decoded, in column order, not the mapping's view of it: a corrected mapping gives the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import compress, repeat

import msgspec

from crossdock_controller.documents.base import encode, entities
from crossdock_controller.formats.base import SAMPLE_BYTES, Decoded, Format
from crossdock_controller.mappings.assemble import Failure, Work
from crossdock_controller.mappings.beside import with_beside
from crossdock_controller.mappings.grouping import Group, Segment
from crossdock_controller.mappings.reading import Stray
from crossdock_controller.mappings.where import trimmed
from crossdock_controller.outcomes import Dead, Hold, Ignored, Locator, Mapped

_RECORDS = b"\x1e"  # ASCII record separator: between the records of a group in the content that is hashed

# What a record is found guilty of only because the header was misread.
_OF_THE_HEADER = frozenset({"too_few_fields", "too_many_fields", "group_key_blank"})


class Emitter:
    """Writes the outcomes of one source of one site."""

    def __init__(self, site: str, source: str, document: str, form: Format) -> None:
        self._site, self._source, self._document, self._format = site, source, document, form
        self._version = entities()[document].VERSION

    def event_ids(self, kind: str, unit: bytes, ordinals: Iterable[int], contents: Iterable[bytes]) -> list[bytes]:
        """*unit* is the file's identity, or the table's name."""
        scope = b"\x00".join((self._site.encode(), self._source.encode(), unit))
        prefix = blake2b(scope, digest_size=6).digest()
        if kind == "table":
            return [prefix + digest for digest in _digests(contents, 10)]
        return [
            prefix + ordinal.to_bytes(5, "big") + digest
            for ordinal, digest in zip(ordinals, _digests(contents, 5), strict=True)
        ]

    def event_id(self, locator: Locator, unit: bytes, rows: Sequence[dict[str, object]]) -> bytes:
        """The id of an event made of *rows*, by column name."""
        content = _RECORDS.join(map(self._format.content, rows))
        return self.event_ids(locator.kind, unit, [locator.record], [content])[0]

    def documents(self, segment: Segment, rows: Decoded, work: Work, groups: Sequence[Group] | None = None) -> None:
        """An outcome for each document of *work*; *groups* stand beside them, None when each record is one."""
        good = [g not in work.failures for g in range(len(work.documents))]
        self._mapped(segment, rows, work, groups, good)
        for g, failure in sorted(work.failures.items()):
            self._dead(segment, rows, work.firsts[g], failure, groups[g] if groups is not None else None)

    def loners(self, segment: Segment, loners: Iterable[tuple[int, Stray]], open_from: int | None) -> None:
        """A dead letter for each unreadable record that belongs to no group."""
        for position, stray in loners:
            if open_from is not None and position >= open_from:
                continue
            piece, local = segment.piece_at(position)
            fault = stray.fault
            code, reason, column = fault.code, fault.reason, fault.column
            if piece.fault is not None and code in _OF_THE_HEADER:
                code, reason, column = piece.fault
            locator = piece.locator(local, fault.line, stray.rows[0] if stray.rows else None)
            piece.out.dead.append(Dead(code, reason, column, stray.records, locator, fault.sample, stray.rows))
        for piece in segment.pieces:
            piece.out.dead.sort(key=lambda dead: dead.locator.record)

    def left_out(self, segment: Segment, open_from: int | None) -> None:
        for base, piece in zip(segment.bases, segment.pieces, strict=True):
            counts: dict[str, int] = {}
            for position, reason in piece.left_out:
                if open_from is None or base + position < open_from:
                    counts[reason] = counts.get(reason, 0) + 1
            piece.out.ignored.extend(Ignored(count, reason) for reason, count in counts.items())

    def _mapped(
        self, segment: Segment, rows: Decoded, work: Work, groups: Sequence[Group] | None, good: Sequence[bool]
    ) -> None:
        """Column by column, as everything here that runs once a record."""
        if not any(good):
            return
        documents = list(compress(work.documents, good))
        firsts = list(compress(work.firsts, good))
        contents = self._format.contents(rows)
        counts: Iterable[int] = repeat(1)
        if groups is not None:
            lasts = list(compress(work.lasts, good))
            counts = [last - first for first, last in zip(firsts, lasts, strict=True)]
            contents = [_RECORDS.join(contents[first:last]) for first, last in zip(firsts, lasts, strict=True)]
        elif len(firsts) != len(contents):
            contents = [contents[first] for first in firsts]
        origin = segment.pieces[0].header.origin
        locators = self._locators(segment, rows, firsts)
        ids = self.event_ids(
            origin.kind,
            origin.unit if origin.kind == "file" else origin.name.encode(),
            [locator.record for locator in locators],
            contents,
        )
        warnings: Iterable[tuple[str, ...]] = repeat(())
        if work.warnings:
            warnings = [tuple(work.warnings.get(g, ())) for g in compress(range(len(good)), good)]
        holds: Iterable[tuple[Hold, ...]] = repeat(())
        if work.holds:
            holds = [tuple(work.holds.get(g, ())) for g in compress(range(len(good)), good)]
        if work.holds or any(one.holds for others in work.beside.values() for one in others):
            for piece in segment.pieces:
                piece.out.holding = True
        keys = [document.key() for document in documents]
        mapped = map(
            Mapped,
            ids,
            repeat(self._document),
            keys,
            map(encode, documents),
            counts,
            locators,
            documents,
            warnings,
            repeat(self._version),
            holds,
        )
        if work.beside:
            made = compress(range(len(good)), good)
            mapped = map(with_beside, mapped, (work.beside.get(g, ()) for g in made))
        if len(segment.pieces) == 1:
            segment.pieces[0].out.mapped.extend(mapped)
            return
        for first, entry in zip(firsts, mapped, strict=False):
            segment.piece_at(rows.positions[first])[0].out.mapped.append(entry)

    def _locators(self, segment: Segment, rows: Decoded, firsts: Sequence[int]) -> list[Locator]:
        origin = segment.pieces[0].header.origin
        positions, lines = rows.positions, rows.lines
        if len(segment.pieces) == 1:
            ordinals: Iterable[int] = [origin.first_record + positions[i] for i in firsts]
        else:
            ordinals = [segment.ordinal(positions[i]) for i in firsts]
        keys = self._keys(segment, rows, firsts)
        return list(
            map(Locator, repeat(origin.kind), repeat(origin.name), ordinals, map(lines.__getitem__, firsts), keys)
        )

    def _keys(self, segment: Segment, rows: Decoded, firsts: Sequence[int]) -> Iterable[str]:
        """`ORDER_NO=4711`, for the rows of a table."""
        names = [name for name in segment.pieces[0].header.key_columns if name in rows.columns]
        if not names:
            return repeat("")
        parts = [[f"{name}={trimmed(value)}" for value in rows.column(name)] for name in names]
        return [" ".join(part[i] for part in parts) for i in firsts]

    def _dead(self, segment: Segment, rows: Decoded, first: int, failure: Failure, entry: Group | None) -> None:
        position = entry.start if entry is not None else rows.positions[first]
        piece, local = segment.piece_at(position)
        members = _members(rows, first, entry)
        stray = entry.strays[0][1] if entry is not None and entry.strays else None
        on_row = failure.row if failure.row is not None else first
        if stray is not None and piece.fault is None:
            sample = stray.fault.sample
        else:
            sample = rows.sample(rows.positions[on_row]) if on_row < len(rows.rows) else b""
        line = members[0][1]
        key_row = members[0][2]
        piece.out.dead.append(
            Dead(
                code=failure.code,
                reason=failure.reason,
                field=failure.field,
                records=entry.records if entry is not None else 1,
                locator=piece.locator(local, line, key_row),
                sample=sample,
                rows=tuple(row for _, _, row in members),
                list=failure.list,
                value=failure.value,
            )
        )


def _digests(contents: Iterable[bytes], size: int) -> Iterator[bytes]:
    """A copied hash is made in half the time of a new one."""
    fresh = blake2b(digest_size=size).copy
    for content in contents:
        digest = fresh()
        digest.update(content)
        yield digest.digest()


def _members(rows: Decoded, first: int, entry: Group | None) -> list[tuple[int, int, dict[str, object]]]:
    """Position, line and fields of each record of a document, in order. An unreadable one shows what is left of it, if
    only {}: retrying such a document asks for what is missing instead of leaving a line out."""
    last = entry.last if entry is not None else first + 1
    members = [(rows.positions[i], rows.lines[i], rows.fields(i)) for i in range(first, last)]
    if entry is not None:
        members += [(p, s.fault.line, s.rows[0] if s.rows else {}) for p, s in entry.strays]
        members.sort(key=lambda member: member[0])
    return members


def sample_of(rows: Sequence[dict[str, object]]) -> bytes:
    """A sample where the raw bytes are not at hand."""
    return msgspec.json.encode(list(rows))[:SAMPLE_BYTES]
