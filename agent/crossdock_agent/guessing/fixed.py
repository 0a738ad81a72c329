"""Fields of fixed width: lines of one length, cut where every line is blank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crossdock_agent.guessing import Guess

MIN_LINES = 3
_EVEN = 0.9


def guess(lines: Sequence[str]) -> list[Guess]:
    """*lines* without their newlines; nothing unless (nearly) all are of one length."""
    if len(lines) < MIN_LINES:
        return []
    (length, count), *_ = Counter(map(len, lines)).most_common(1)
    if count < max(MIN_LINES, _EVEN * len(lines)) or length < 4:
        return []
    same = [line for line in lines if len(line) == length]
    fields = _fields(same, length)
    odd = [i for i, line in enumerate(lines) if len(line) != length]
    found = [
        Guess("format.kind", "fixed", f"{count} of {len(lines)} lines are {length} characters long"),
        Guess("format.fields", [{"name": f"F{i}", "start": start, "length": size} for i, (start, size) in
              enumerate(fields, 1)], "cut where a blank column ends in every line; fields without a blank between them "
              "look like one: compare with the layout"),
    ]  # fmt: skip
    if odd and odd == list(range(len(odd))):
        found.append(Guess("format.header_lines", len(odd), f"the first {len(odd)} are of another length"))
    return found


def _fields(lines: Sequence[str], length: int) -> list[tuple[int, int]]:
    """(start from 1, length): each field with the blanks behind it, which belong to it when it is left-aligned."""
    blank = [all(line[i] == " " for line in lines) for i in range(length)]
    starts = [i for i in range(length) if not blank[i] and (i == 0 or blank[i - 1])]
    if starts and starts[0] > 0:
        starts[0] = 0
    return [(start + 1, end - start) for start, end in zip(starts, [*starts[1:], length], strict=True)]
