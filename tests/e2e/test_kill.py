"""The main promise, broken on purpose: processes die at random moments, every record arrives exactly once."""

import csv
import os
import random
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from support.gateway import wait_until
from support.processes import Centre, Process

KILLS = 30
ROWS_A_FILE = 1_500
SEED = int(os.environ.get("CROSSDOCK_KILL_SEED", "4711"))  # a failing seed replays


class Business:
    """Drops files and commits rows all the time, and remembers what it gave: the independent ledger."""

    def __init__(self, directory: Path) -> None:
        self.out = directory / "wms-out"
        self.out.mkdir()
        self.erp = directory / "erp.db"
        with sqlite3.connect(self.erp) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE products(id INTEGER PRIMARY KEY, sku TEXT, name TEXT)")
        self.given: dict[str, set[str]] = {"stock": set(), "products": set()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Business":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        db = sqlite3.connect(self.erp)
        while not self._stop.wait(0.25):
            self._drop_file(number)
            rows = [(f"P{number:05d}-{i:03d}", f"Product {i}") for i in range(200)]
            db.executemany("INSERT INTO products(sku, name) VALUES(?, ?)", rows)
            db.commit()
            self.given["products"] |= {sku for sku, _ in rows}
            number += 1
        db.close()

    def _drop_file(self, number: int) -> None:
        skus = [f"S{number:05d}-{i:05d}" for i in range(ROWS_A_FILE)]
        temporary = self.out / f"stock{number:05d}.tmp"
        with temporary.open("w", newline="", encoding="cp1252") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(["LOC", "SKU", "QTY"])
            writer.writerows(("ATL1", sku, f"{i % 90},5") for i, sku in enumerate(skus))
        temporary.rename(temporary.with_suffix(".csv"))
        self.given["stock"] |= set(skus)


def write_tree(directory: Path, business: Business, finance: Path) -> Path:
    tree = {
        "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\nzone: America/New_York\n",
        "sources/stock.yaml": f"""source: stock
on: {{region: us}}
kind: file_drop
directory: {business.out.as_posix()}
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.2
format: {{kind: csv, delimiter: ";", encoding: cp1252}}
""",
        "sources/products.yaml": f"""source: products
on: {{region: us}}
kind: sql_table
connection: {{sqlite: {business.erp.as_posix()}}}
table: products
mode: incrementing
column: id
key: [id]
poll_seconds: 0.2
""",
        "mappings/stock.yaml": """mapping: stock
document: StockLevel
fields:
  location: LOC
  sku: SKU
  on_hand: {from: QTY, as: decimal, decimal: ","}
""",
        "mappings/products.yaml": "mapping: products\ndocument: Product\nfields: {sku: sku, description: name}\n",
        "routes/all.yaml": 'when: document in ["StockLevel", "Product"]\nto: [finance]\n',
        "sinks/finance.yaml": f"""sink: finance
kind: sql
url: sqlite:///{finance.as_posix()}
create_tables: true
tables:
  StockLevel:
    table: stock
    key: [location, sku]
    columns: {{location: location, sku: sku, on_hand: on_hand, sequence: $sequence}}
  Product:
    table: products
    key: [sku]
    columns: {{sku: sku, name: description}}
""",
    }
    for name, text in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return directory


def arrived(finance: Path) -> dict[str, list[str]]:
    """Every key in the sink, once for each row that holds it."""
    if not finance.exists():
        return {"stock": [], "products": []}
    db = sqlite3.connect(finance)
    try:
        return {t: [r[0] for r in db.execute(f"SELECT sku FROM {t}")] for t in ("stock", "products")}
    except sqlite3.OperationalError:
        return {"stock": [], "products": []}
    finally:
        db.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thirty_kills_of_agent_and_controller_lose_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    finance = tmp_path / "finance.db"
    with Centre(tmp_path) as centre:
        transfer_under_fire(tmp_path, centre, finance, rng)


def transfer_under_fire(tmp_path: Path, centre: Centre, finance: Path, rng: random.Random) -> None:
    business = Business(tmp_path)
    centre.run("apply", str(write_tree(tmp_path / "config", business, finance)))
    agent = centre.enrol("atl1").start()
    kept = tmp_path / "agent-atl1" / "last-good.json"
    wait_until(kept.exists, "the configuration is kept: three kills before would let it rest", 120)
    with business:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, 1.2))  # the moment itself is what is random here
            strike(rng, centre, agent)
    given = {name: sorted(skus) for name, skus in business.given.items()}
    wait_until(lambda: {n: sorted(a) for n, a in arrived(finance).items()} == given, "all has arrived, once", 120)
    account = {row["source"]: row for row in centre.json("account")["sources"]}
    for source, keys in given.items():
        assert account[source]["in"] >= account[source]["delivered"] == len(keys), account[source]
        assert account[source]["balanced"], account[source]
        assert account[source]["pending"] == account[source]["dead"] == account[source]["held"] == 0, account[source]


def strike(rng: random.Random, centre: Centre, agent: Process) -> None:
    """Kill one of the four processes without warning; start again what nobody else starts."""
    victim = rng.choice(["agent", "agent", "controller", "controller", "normalize", "dispatch"])
    if victim == "agent":
        agent.kill()
        agent.start()
    elif victim == "controller":
        centre.process.kill()
        centre.start()
    else:
        centre.process.kill_child(victim)
