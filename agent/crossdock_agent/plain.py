"""Tables for people in plain text: aligned, cut to the width of the terminal, nothing in them that moves the cursor."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CONSTANTS = {"null", "true", "false"}
CELL = 32  # characters of a value at most


def width() -> int:
    return max(60, shutil.get_terminal_size((120, 24)).columns)


def shown(value: object, limit: int = CELL) -> str:
    """*value* in one line: NULL, hex for bytes, escapes for what cannot be seen."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        text = "0x" + value[: limit // 2].hex()
        return text if len(value) <= limit // 2 else text[: limit - 1] + "…"
    text = str(value) if isinstance(value, str | int | float | bool) else _nested(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def table(
    names: Sequence[str], rows: Sequence[Sequence[object]], limit: int = CELL, *, open_end: bool = False
) -> Iterator[str]:
    """Rows under names; one below the other, as blocks, when they are wider than the terminal. The last column of a
    table with an *open_end* is a remark, which may go over it."""
    cells = [[shown(value, limit) for value in row] for row in rows]
    sizes = [
        max([len(name), *(len(row[i]) for row in cells if i < len(row))]) for i, name in enumerate(names)
    ]  # fmt: skip
    if open_end:
        sizes[-1] = len(names[-1])
    elif sum(sizes) + 2 * len(sizes) > width():
        yield from _blocks(names, cells)
        return
    yield "  ".join(name.ljust(size) for name, size in zip(names, sizes, strict=True)).rstrip()
    yield "  ".join("-" * size for size in sizes)
    for row in cells:
        yield "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)).rstrip()


def flow(value: object) -> str:
    """*value* as YAML in one line: JSON is YAML, and a plain word needs no quotes."""
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in _CONSTANTS:
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return _nested(value)


def _blocks(names: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    size = max(map(len, names), default=0)
    for number, row in enumerate(cells, 1):
        yield f"record {number}"
        for name, cell in zip(names, row, strict=False):
            yield f"  {name.ljust(size)}  {cell}"


def _nested(value: object) -> str:
    import msgspec

    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return repr(value)
