"""The file every part of the benchmark moves: a stock snapshot of 13 columns, ~200 bytes a row, cp1252, decimal commas.

Deterministic: the same number of rows gives the same bytes everywhere. No field holds the delimiter or a quote.
"""

from __future__ import annotations

from pathlib import Path

COLUMNS = [
    "LOC",
    "SKU",
    "LOT",
    "STATUS",
    "ON_HAND",
    "AVAIL",
    "ALLOC",
    "ORDERED",
    "UNIT",
    "AS_OF",
    "OWNER",
    "GTIN",
    "TEXT",
]
ENCODING = "cp1252"
_CHUNK = 20_000

_ITEMS = ("Rillenkugellager", "Zylinderschraube", "Dichtungssatz", "Förderband", "Überwurfmutter", "Kegelrollenlager")
_TEXTS = (
    "verzinkt, größenabhängig geprüft, Außenring gehärtet",
    "nach Werksnorm, Käfig aus Stahl, beidseitig abgedichtet",
)


def row(i: int) -> list[str]:
    """Unique in (LOC, SKU, LOT, STATUS); quantities, times and texts vary as they do in a warehouse."""
    on_hand = f"{i * 37 % 9000 // 1000}.{i * 37 % 1000:03},{i % 4 * 25:02}"
    return [
        f"ATL1-{i % 40:02}", f"SKU-{i // 4:07}", f"L{i % 4}{i % 977:05}", "FQS"[i % 3], on_hand, on_hand, "0,00",
        f"{i % 500},50", "ST" if i % 5 else "KG", f"30.01.2026 {i // 60000 % 24:02}:{i // 1000 % 60:02}",
        f"ACME Distribution {i % 12:02}", f"{4000000000000 + i // 4}",
        f"{_ITEMS[i % 6]} {6200 + i % 100}, {_TEXTS[i % 2]}",
    ]  # fmt: skip


def write(path: Path, rows: int) -> int:
    """Writes the file with its header line; its size in bytes."""
    with path.open("wb") as file:
        file.write((";".join(COLUMNS) + "\n").encode(ENCODING))
        for start in range(0, rows, _CHUNK):
            lines = [";".join(row(i)) for i in range(start, min(start + _CHUNK, rows))]
            file.write(("\n".join(lines) + "\n").encode(ENCODING))
    return path.stat().st_size
