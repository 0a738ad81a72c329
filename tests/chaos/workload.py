"""The business at one site: programs that drop files, write a log, and commit rows, for as long as they are let.

Each tells the ledger what it gave, once it is written; none knows of crossdock, and none ever takes anything back.
A poison record has a mark where its quantity should be, and no version: the product must set exactly it aside.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from chaos.ledger import Ledger, Record

KEYS = 12  # of each source: few, so that versions of a key are close together
POISON = "broken"


class Giver:
    """One source's program. `tick` gives something; `finish` leaves nothing half written."""

    name = ""
    poisons = True

    def __init__(self, site: str, root: Path, ledger: Ledger, rng: random.Random) -> None:
        self.site, self.root, self.ledger, self.rng = site, root, ledger, rng
        self.ticks = 0
        self._poisoned = 0

    def tick(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Most write nothing by halves."""

    def draw(self, most: int) -> list[Record]:
        keys = [f"{self.site}-{self.name}-{self.rng.randrange(KEYS):02d}" for _ in range(self.rng.randint(1, most))]
        return [self.ledger.next_version(key) for key in keys]

    def poison(self) -> list[str]:
        """The marks of the poison records that come along: mostly none."""
        if not self.poisons or self.rng.random() >= 0.05:
            return []
        self._poisoned += 1
        return [f"{POISON}-{self.site}-{self.name}-{self._poisoned}"]

    def gave(self, where: str, records: Sequence[Record], poison: Sequence[str] = ()) -> None:
        self.ledger.gave(self.site, self.name, where, records, poison)


class Drops(Giver):
    """Whole CSV files, written under a temporary name."""

    def __init__(self, name: str, site: str, root: Path, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(site, root, ledger, rng)
        self.name = name
        self.directory = root / name
        self.directory.mkdir(parents=True)
        self.dropped: dict[str, bytes] = {}

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks % 3:
            return
        records, poison = self.draw(40), self.poison()
        rows = [f"{r.key};{r.version}" for r in records]
        for mark in poison:
            rows.insert(self.rng.randrange(len(rows)), f"{self.site}-{POISON};{mark}")
        name = f"{self.name}{self.ticks:06d}.csv"
        text = "\n".join(["SKU;QTY", *rows]).encode() + b"\n"
        temporary = self.directory / f"{name}.tmp"
        temporary.write_bytes(text)
        temporary.rename(self.directory / name)
        self.dropped[name] = text
        self.gave(name, records, poison)

    def left(self) -> list[str]:
        return sorted(p.name for p in self.directory.glob("*.csv"))

    def archived(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.directory / "archive").glob("*.csv")}


class Journal(Giver):
    """A log of JSON lines that is rotated by renaming, and often stands with half a line for a moment."""

    name = "journal"

    def __init__(self, site: str, root: Path, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(site, root, ledger, rng)
        self.directory = root / self.name
        self.directory.mkdir(parents=True)
        self._file = self.directory / "journal.log"
        self._half = b""
        self._pending: tuple[list[Record], list[str]] = ([], [])

    def tick(self) -> None:
        self.ticks += 1
        if self._half:
            self.finish()
            return
        if self.ticks % 25 == 0:
            self._rotate()
        records, poison = self.draw(12), self.poison()
        lines = [f'{{"sku": "{r.key}", "qty": "{r.version}"}}\n' for r in records]
        lines += [f'{{"sku": "{self.site}-{POISON}", "qty": "{mark}"}}\n' for mark in poison]
        text = "".join(lines).encode()
        cut = len(text) - self.rng.randrange(1, 20) if self.rng.random() < 0.2 else len(text)
        with self._file.open("ab") as file:
            file.write(text[:cut])
        self._half, self._pending = text[cut:], (records, poison)
        if not self._half:
            self.finish()

    def finish(self) -> None:
        if self._half:
            with self._file.open("ab") as file:
                file.write(self._half)
        self._half = b""
        records, poison = self._pending
        if records or poison:
            self.gave(f"journal.log, tick {self.ticks}", records, poison)
        self._pending = ([], [])

    def _rotate(self) -> None:
        """journal.log.1 is the youngest of the old ones; none is ever deleted."""
        old = sorted(self.directory.glob("journal.log.*"), key=lambda p: int(p.suffix[1:]), reverse=True)
        for path in old:
            path.rename(self.directory / f"journal.log.{int(path.suffix[1:]) + 1}")
        if self._file.exists():
            self._file.rename(self.directory / "journal.log.1")


class Table(Giver):
    """Rows in a table of a SQLite file that other programs read as well."""

    schema = ""

    def __init__(self, site: str, root: Path, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(site, root, ledger, rng)
        self.path = root / f"{self.name}.db"
        self.root.mkdir(parents=True, exist_ok=True)
        # Used by one thread at a time: the business's, and the harness once that has ended.
        self.db = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode=WAL").fetchall()
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute(self.schema)

    def rows(self) -> int:
        return int(self.db.execute(f"SELECT count(*) FROM {self.name}").fetchone()[0])


class Orders(Table):
    """Only ever added to."""

    name = "orders"
    schema = "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT, qty TEXT)"

    def tick(self) -> None:
        records, poison = self.draw(10), self.poison()
        rows = [(r.key, str(r.version)) for r in records] + [(f"{self.site}-{POISON}", mark) for mark in poison]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(f"INSERT INTO {self.name}(sku, qty) VALUES(?, ?)", rows)
        last = self.db.execute(f"SELECT max(id) FROM {self.name}").fetchone()[0]
        self.db.execute("COMMIT")
        self.gave(f"ids to {last}", records, poison)


class Exports(Orders):
    """An outbox table: the product deletes what it has delivered."""

    name = "exports"
    schema = "CREATE TABLE exports(id INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT, qty TEXT)"


class Shelves(Table):
    """Rows that change in place: of the states between two looks nothing is promised."""

    name = "shelves"
    schema = "CREATE TABLE shelves(sku TEXT PRIMARY KEY, qty TEXT)"
    poisons = False

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks % 2:
            return
        records = self.draw(5)
        self.db.execute("BEGIN IMMEDIATE")
        for record in records:
            self.db.execute(
                "INSERT INTO shelves VALUES(?, ?) ON CONFLICT DO UPDATE SET qty = excluded.qty",
                (record.key, str(record.version)),
            )
        self.db.execute("COMMIT")
        self.gave(f"tick {self.ticks}", records)


class Business:
    """All programs of one site, on one thread. A context manager; leaving it ends the giving."""

    def __init__(self, site: str, root: Path, ledger: Ledger, seed: int, pause_seconds: float = 0.25) -> None:
        rng = random.Random(f"{seed} {site}")
        self.site = site
        self.archived = Drops("shipments", site, root, ledger, rng)
        self.deleted = Drops("stock", site, root, ledger, rng)
        self.exports = Exports(site, root, ledger, rng)
        self.givers: list[Giver] = [
            self.archived, self.deleted, Journal(site, root, ledger, rng), Orders(site, root, ledger, rng),
            self.exports, Shelves(site, root, ledger, rng),
        ]  # fmt: skip
        self.failure: BaseException | None = None
        self._pause = pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"business-{site}")

    def __enter__(self) -> Business:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for giver in self.givers:
            if isinstance(giver, Table):
                giver.db.close()

    def end(self) -> None:
        """Give no more; the tables stay open for a look."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                for giver in self.givers:
                    giver.tick()
            for giver in self.givers:
                giver.finish()
        except BaseException as error:  # noqa: BLE001 - told by the run: a harness that gives nothing proves nothing
            self.failure = error
