"""The first bytes of a file to guesses, coarse before fine: what it is, its encoding, then what its kind has to set."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter

from msgspec import Struct

from crossdock_agent.guessing import Guess, delimited, encodings, fixed, values
from crossdock_agent.guessing.values import ColumnGuess

_MAGIC = (
    (b"\x1f\x8b", "gzip", "packed with gzip"),
    (b"PK\x03\x04", "zip", "a zip archive (or an Excel file, which is one)"),
    (b"\xd0\xcf\x11\xe0", "xls", "an old Excel or Word file"),
    (b"%PDF", "pdf", "a PDF document"),
    (b"ISA", "x12", "begins with ISA: an X12 interchange"),
    (b"UNA", "edifact", "begins with UNA: an EDIFACT interchange"),
    (b"UNB", "edifact", "begins with UNB: an EDIFACT interchange"),
)
_TEXTUAL = {"x12", "edifact"}
_TAG = re.compile(r"<([^\s<>/!?=\"'&;]+)")


class FileGuess(Struct, frozen=True):
    """*differing* are lines that read otherwise in the second-best encoding: (as guessed, otherwise, its name)."""

    guesses: list[Guess]
    columns: list[ColumnGuess] = []
    differing: list[tuple[str, str, str]] = []


def guess(data: bytes, *, whole: bool) -> FileGuess:
    """*data* is how a file begins; *whole*: and all of it. What is cut off at the end is not looked at."""
    if not data.strip(codecs.BOM_UTF8):
        return FileGuess([Guess("file", "empty", "there is nothing in it to go by", sure=True)])
    for magic, name, reason in _MAGIC:
        if data.startswith(magic) and name not in _TEXTUAL:
            return FileGuess([Guess("file", name, reason, sure=True)])
    encoding = encodings.guess(data)
    differing: list[tuple[str, str, str]] = []
    if not encoding.sure and encoding.value in encodings.CANDIDATES:
        for other, _ in encodings.ranked(data):
            differing = [(one, two, other) for one, two in encodings.differing_lines(data, str(encoding.value), other)]
            if differing:
                break
    text = data.decode(str(encoding.value), "replace").removeprefix("\ufeff")
    if "\n" in text and not whole:
        text = text[: text.rindex("\n") + 1]
    found, columns = _of_text(text)
    return FileGuess([*found, _under_format(encoding), _newline(text)], columns, differing)


def _of_text(text: str) -> tuple[list[Guess], list[ColumnGuess]]:
    lines = [line for line in re.split(r"\r?\n|\r", text.rstrip("\x1a")) if line.strip()]
    for magic, name, reason in _MAGIC:
        if name in _TEXTUAL and text.startswith(magic.decode()):
            return [Guess("format.kind", name, reason, sure=True)], []
    first = text.lstrip()[:1]
    if first == "<":
        return [Guess("format.kind", "xml", "begins with '<'", sure=True), *_element(text)], []
    if first in {"{", "["} and (found := _json(lines, text)):
        return [found], []
    cut = delimited.read(text)
    flat = fixed.guess(lines)
    if cut is not None and (not flat or cut.even >= 0.9):
        head, records = delimited.guesses(cut), cut.records
        names = [c.strip() for c in records[0]] if head[2].value else [f"column {i + 1}" for i in range(cut.fields)]
        rest = [r for r in records[1 if head[2].value else 0 :] if len(r) == cut.fields]
        columns = [values.guess(name, [r[i] for r in rest]) for i, name in enumerate(names[: cut.fields])]
        odd = len(records) - sum(len(r) == cut.fields for r in records)
        if odd:
            i = next(i for i, r in enumerate(records) if len(r) != cut.fields)
            head.append(
                Guess("records", f"{odd} uneven", f"record {i + 1} has {len(records[i])} fields: {records[i]!r}")
            )
        return [Guess("format.kind", "csv", "one delimiter cuts the records evenly"), *head], columns
    if flat:
        return flat, []
    return [Guess("format.kind", "lines", "nothing cuts its lines into fields evenly")], []


def _element(text: str) -> list[Guess]:
    """The first element below the root that comes again is most likely the record."""
    names = _TAG.findall(text)
    counts = Counter(names)
    for name in names[1:]:
        if (count := counts[name]) > 1:
            return [Guess("format.element", name, f"<{name}> comes {count} times below <{names[0]}>")]
    return []


def _json(lines: list[str], text: str) -> Guess | None:
    if text.lstrip().startswith("["):
        return Guess("format.kind", "json", "begins with '[': one JSON array", sure=True)
    good = sum(_parses(line) for line in lines)
    if good == len(lines):
        return Guess("format.kind", "jsonl", f"each of {len(lines)} lines is a JSON object", sure=len(lines) > 1)
    if not good:
        return Guess("format.kind", "json", "begins with '{' and goes over several lines: one JSON document")
    return Guess(
        "format.kind", "jsonl", f"{good} of {len(lines)} lines are JSON objects; the others would be set aside"
    )


def _parses(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _under_format(guess: Guess) -> Guess:
    return Guess(f"format.{guess.setting}", guess.value, guess.reason, guess.sure)


def _newline(text: str) -> Guess:
    crlf = text.count("\r\n")
    lf, cr = text.count("\n") - crlf, text.count("\r") - crlf
    kinds = [(n, name) for n, name in ((crlf, "CR LF"), (lf, "LF"), (cr, "CR alone")) if n]
    if not kinds:
        return Guess(
            "newlines", "none", f"no newline in {len(text)} characters: records of a fixed length, or one record"
        )
    said = ", ".join(f"{n} {name}" for n, name in kinds)
    end = "; a ^Z (0x1A) ends it" if text.endswith("\x1a") else ""
    mixed = " are mixed; CR LF and LF are both understood" if len(kinds) > 1 else ""
    return Guess("newlines", max(kinds)[1], f"{said}{mixed}{end}", sure=len(kinds) == 1)
