"""The outcomes of the same records by two mappings, side by side. A document is known by its event id: of the same
records, whatever was made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from crossdock_controller.outcomes import Dead, Mapped, Outcomes
from crossdock_controller.preview.model import SAMPLES, DocumentChange, FieldChange, Kind, Result

_INDEX = re.compile(r"\[\d+\]")
MOST_FIELDS = 40  # of one document
MOST_NAMES = 500  # fields that are counted, of all documents


class Comparison:
    """Adds what it sees to *result*."""

    def __init__(self, result: Result, site: str, source: str, most: int) -> None:
        self._result, self._most = result, most
        self._site, self._source = site, source
        self._counts = result.source(site, source)
        self._fields = {(entry.document, entry.field): entry for entry in result.fields}

    def add(self, before: Sequence[Outcomes], after: Sequence[Outcomes]) -> None:
        counts = self._counts
        old = {m.event_id: m for out in before for m in out.mapped}
        new = {m.event_id: m for out in after for m in out.mapped}
        died, was_dead = _dead_by_record(after), _dead_by_record(before)
        counts.before += len(old)
        counts.after += len(new)
        counts.dead_before += sum(d.records for out in before for d in out.dead)
        counts.dead_after += sum(d.records for out in after for d in out.dead)
        counts.ignored_before += sum(i.records for out in before for i in out.ignored)
        counts.ignored_after += sum(i.records for out in after for i in out.ignored)
        for event_id, one in old.items():
            other = new.get(event_id)
            if other is None:
                self._gone(one, died)
            elif one.body == other.body and one.document == other.document:
                counts.unchanged += 1
            else:
                self._changed(one, other)
        for event_id, other in new.items():
            if event_id not in old:
                self._came(other, was_dead)

    def _gone(self, one: Mapped, died: dict[tuple[str, int], Dead]) -> None:
        letter = died.get((one.locator.name, one.locator.record))
        if letter is None:
            self._counts.removed += 1
            self._tell("removed", one)
        else:
            self._counts.newly_dead += 1
            self._tell("newly dead", one, reason=f"{letter.code}: {letter.reason}")

    def _came(self, other: Mapped, was_dead: dict[tuple[str, int], Dead]) -> None:
        letter = was_dead.get((other.locator.name, other.locator.record))
        if letter is None:
            self._counts.added += 1
            self._tell("added", other)
        else:
            self._counts.newly_healed += 1
            self._tell("newly healed", other, reason=f"{letter.code}: {letter.reason}")

    def _changed(self, one: Mapped, other: Mapped) -> None:
        self._counts.changed += 1
        found: list[FieldChange] = []
        if one.document != other.document:
            found.append(FieldChange("(document)", one.document, other.document))
        if one.key != other.key:
            found.append(FieldChange("(key)", one.key, other.key))
        found += field_changes(msgspec.json.decode(one.body), msgspec.json.decode(other.body))
        seen: set[str] = set()
        for change in found:
            name = _INDEX.sub("[]", change.field)
            if name not in seen:
                seen.add(name)
                self._count(other.document, name, change)
        self._tell("changed", other, tuple(found[:MOST_FIELDS]))

    def _count(self, document: str, name: str, change: FieldChange) -> None:
        counted = self._fields.get((document, name))
        if counted is None:
            if len(self._fields) >= MOST_NAMES:
                return
            counted = self._fields[document, name] = self._result.field(document, name)
        counted.count += 1
        if len(counted.samples) < SAMPLES:
            counted.samples.append(change)

    def _tell(self, kind: Kind, m: Mapped, fields: tuple[FieldChange, ...] = (), reason: str = "") -> None:
        if len(self._result.changes) < self._most:
            self._result.changes.append(
                DocumentChange(kind, self._site, self._source, m.document, m.key, m.locator.text(), fields, reason)
            )


def _dead_by_record(outcomes: Sequence[Outcomes]) -> dict[tuple[str, int], Dead]:
    return {
        (d.locator.name, record): d
        for out in outcomes
        for d in out.dead
        for record in range(d.locator.record, d.locator.record + d.records)
    }


def field_changes(before: Any, after: Any, path: str = "") -> Iterator[FieldChange]:
    """Each leaf that differs, by path: `lines[2].quantity.value`."""
    if before == after and type(before) is type(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from field_changes(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(after, list):
        for i in range(max(len(before), len(after))):
            one = before[i] if i < len(before) else None
            other = after[i] if i < len(after) else None
            yield from field_changes(one, other, f"{path}[{i}]")
    else:
        yield FieldChange(path, _text(before), _text(after))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
