"""The product itself: real `crossdock controller run` and `crossdock-agent run`, enrolled, over mutual TLS.

(a) `to_intake`: from the moment the file appears until the agent moves it to its archive, which it does only once the
controller acknowledged the last batch as durable. The source has no mapping, so nothing else runs meanwhile.
(b) `to_sink`: from the same moment until the last row is committed in a SQLite `sql` sink: mapped to StockLevel,
checked, routed, upserted by key with all columns.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, sleep

from measure import Meter

from support.gateway import wait_until
from support.processes import Centre, Process

PATIENCE_SECONDS = 900.0

SITE = "site: bench\nlabels: {}\nzone: America/New_York\n"
SOURCE = """source: stock
on: {}
kind: file_drop
lane: bulk
directory: ${drop}
pattern: "*.csv"
settle_seconds: 0
afterwards: archive
format: {kind: csv, delimiter: ";", encoding: cp1252}
"""
MAPPING = """mapping: stock
document: StockLevel
fields:
  location: LOC
  sku: SKU
  lot: LOT
  status: {from: STATUS, codes: {F: available, Q: quality, S: blocked}}
  on_hand: {from: ON_HAND, decimal: ",", thousands: ".", uom: UNIT}
  available: {from: AVAIL, decimal: ",", thousands: ".", uom: UNIT}
  allocated: {from: ALLOC, decimal: ",", thousands: ".", uom: UNIT}
  on_order: {from: ORDERED, decimal: ",", thousands: ".", uom: UNIT}
  as_of: {from: AS_OF, format: "%d.%m.%Y %H:%M", zone: site}
  extensions.acme.owner: OWNER
  gtin: GTIN
  description: TEXT
"""
_ROUTE = 'when: document == "StockLevel"\nto: [warehouse]\n'
_SINK = """sink: warehouse
kind: sql
url: sqlite:///${database}
create_tables: true
tables:
  StockLevel:
    table: stock
    key: [location, sku, lot, status]
    columns:
      location: location
      sku: sku
      lot: lot
      status: status
      on_hand: on_hand.value
      available: available.value
      allocated: allocated.value
      on_order: on_order.value
      uom: on_hand.uom
      as_of: as_of
      owner: extensions.acme.owner
      gtin: gtin
      description: description
      sequence: $sequence
"""

Result = tuple[float, int, list[dict[str, object]]]


def to_intake(source: Path, directory: Path, rows: int) -> Result:
    with _running(directory, {}) as (centre, drop, meter):
        meter.start()
        began = perf_counter()
        os.link(source, drop / "stock.csv")
        _wait((drop / "archive" / "stock.csv").exists, centre, began)
        seconds = perf_counter() - began
        usages = meter.stop()
        with closing(sqlite3.connect(centre.data / "intake.db")) as db:
            kept = db.execute("SELECT sum(records) FROM streams").fetchone()[0]
    assert kept == rows, f"the intake holds {kept} records of {rows}"
    return seconds, kept, [asdict(usage) for usage in usages]


def to_sink(source: Path, directory: Path, rows: int) -> Result:
    database = directory / "warehouse.db"
    tree = {
        "mappings/stock.yaml": MAPPING,
        "routes/stock.yaml": _ROUTE,
        "sinks/warehouse.yaml": _SINK,
    }
    with _running(directory, tree) as (centre, drop, meter):
        meter.start()
        began = perf_counter()
        os.link(source, drop / "stock.csv")
        _wait(lambda: last_row(database, "stock") >= rows, centre, began)
        seconds = perf_counter() - began
        usages = meter.stop()
        (account,) = centre.json("account")["sources"]
    with closing(sqlite3.connect(database)) as db:
        arrived, keys = db.execute("SELECT count(*), count(DISTINCT sku || lot || status) FROM stock").fetchone()
    assert (arrived, keys) == (rows, rows), f"{arrived} rows and {keys} keys arrived of {rows}: {account}"
    return seconds, arrived, [asdict(usage) for usage in usages]


def agent_runs(centre: Centre, tree: Mapping[str, str], **values: str) -> Process:
    """Applies *tree* (with `${name}` replaced by the value of that name); the agent of site bench, once it runs it."""
    root = centre.directory / "tree"
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(text, values), "utf-8")
    centre.run("apply", str(root))
    agent = centre.enrol("bench").start()
    wait_until(lambda: _configured(centre), "the agent runs the revision", 60)
    return agent


@contextmanager
def _running(directory: Path, tree: dict[str, str]) -> Iterator[tuple[Centre, Path, Meter]]:
    """Controller and agent, connected and configured, with nothing to do yet; the directory to drop into; a meter."""
    drop = directory / "drop"
    drop.mkdir(parents=True)
    files = {"sites/bench.yaml": SITE, "sources/stock.yaml": SOURCE, **tree}
    with Centre(directory) as centre:
        agent = agent_runs(centre, files, drop=drop.as_posix(), database=(directory / "warehouse.db").as_posix())
        sleep(1.0)  # start-up work ends: it belongs to no measurement
        yield centre, drop, Meter({"agent": agent.pid, "controller": centre.process.pid})


def _filled(text: str, values: Mapping[str, str]) -> str:
    for word, value in values.items():
        text = text.replace(f"${{{word}}}", value)
    return text


def _configured(centre: Centre) -> bool:
    with closing(sqlite3.connect(centre.data / "state.db")) as db:
        found = db.execute("SELECT config_state FROM agents WHERE connected = 1 AND revision > 0").fetchall()
    return found == [("applied",)]


def _wait(done: Callable[[], bool], centre: Centre, began: float) -> None:
    while not done():
        if perf_counter() - began > PATIENCE_SECONDS or not centre.process.alive():
            raise TimeoutError(f"not done after {perf_counter() - began:.0f} s:\n{centre.process.tail()}")
        sleep(0.02)


def last_row(database: Path, table: str) -> int:
    """The largest row number: an upsert keeps it, so it counts rows without reading them."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as db:
        try:
            return db.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
        except sqlite3.OperationalError:  # the table is not there yet
            return 0
