"""A small real configuration, and batches for it as an agent would send them: orders "NO;NOTE" to a SQLite sink."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from support.pipeline import Box

PREFIX = b"NO;NOTE\n"


def tree(*sources: str, rules: str = "", sinks: Mapping[str, str] | None = None) -> dict[str, str]:
    """*rules* are added to each mapping; *sinks* are definitions by name, with one SQLite sink "finance" by default."""
    found = {"sites/atl1.yaml": "site: atl1\nlabels: {region: us}\n"}
    for source in sources or ("orders",):
        found[f"sources/{source}.yaml"] = (
            f"source: {source}\non: {{}}\nkind: file_drop\ndirectory: /nowhere/{source}\npattern: '*.csv'\n"
            "format: {kind: csv, delimiter: ';'}\n"
        )
        found[f"mappings/{source}.yaml"] = (
            f"mapping: {source}\ndocument: Product\nfields: {{sku: NO, description: NOTE}}\n{rules}"
        )
    names = ", ".join(sinks or {"finance": ""})
    found["routes/all.yaml"] = f'when: document == "Product"\nto: [{names}]\n'
    for name, text in (sinks or {"finance": SQLITE_SINK}).items():
        found[f"sinks/{name}.yaml"] = f"sink: {name}\n{text}"
    return found


SQLITE_SINK = """kind: sql
url: sqlite:///finance.db
create_tables: true
tables:
  Product: {table: product, key: [sku], columns: {sku: sku, note: description, sequence: $sequence}}
"""


class Orders:
    """Sends batches of *source* into a box's intake."""

    def __init__(self, box: Box, source: str = "orders", seed: int = 1) -> None:
        self._box = box
        self._source = source
        self._sealer = Sealer()
        self._rng = random.Random(seed)
        self._ordinal = 0

    def send(self, *rows: tuple[str, str], lane: str = "standard") -> None:
        origin = Origin(
            kind="file", name=f"{self._source}.csv", unit=self._source.encode().ljust(16, b"u"),
            first_record=self._ordinal, first_line=self._ordinal + 2,
        )  # fmt: skip
        self._ordinal += len(rows)
        header = BatchHeader(format="csv", records=len(rows), prefix=PREFIX, origin=origin)
        payload = "".join(f"{number};{note}\n" for number, note in rows).encode()
        sealed = self._sealer.seal(header, payload)
        self._box.store(sealed.data, sealed.crc32, len(rows), source=self._source, lane=lane)

    def send_many(self, first: int, count: int) -> list[str]:
        """Their numbers."""
        numbers = [f"{self._source}-{n:06d}" for n in range(first, first + count)]
        self.send(*((number, "plain") for number in numbers))
        return numbers


def delivered(root: Path) -> list[str]:
    """Every number in the SQLite sink, once for each row that holds it."""
    import sqlite3
    from contextlib import closing

    if not (root / "finance.db").exists():
        return []
    with closing(sqlite3.connect(root / "finance.db")) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'product'").fetchone() is None:
            return []
        return [sku for (sku,) in db.execute("SELECT sku FROM product ORDER BY sku")]
