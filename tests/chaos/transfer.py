"""The fixed transfer of the kill-point sweep: small, the same each time, with one of everything that must survive.

A site hands over two files that are archived, one that is deleted, rows of a table, and, after a configuration push in
the middle, lines of a growing log and one more file. They go to a SQL sink and to a file sink. An independent ledger,
what the transfer itself put there, is compared with what arrived.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.commands.account import account
from crossdock_controller.paths import DataDirectory
from support.processes import Centre

ARCHIVED = {f"stock{i}.csv": [f"A{i}-{n}" for n in range(4)] for i in (1, 2, 3)}  # the third comes after the push
DELETED = {"returns1.csv": [f"D1-{n}" for n in range(4)]}
TABLE = [f"P{n}" for n in range(6)]
LOGGED = [f"L{n}" for n in range(6)]

_TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\n",
    "sources/stock.yaml": """source: stock
on: {region: us}
kind: file_drop
directory: ROOT/site/out
pattern: "stock*.csv"
settle_seconds: 0
poll_seconds: 0.05
afterwards: archive
format: {kind: csv, delimiter: ";"}
""",
    "sources/returns.yaml": """source: returns
on: {region: us}
kind: file_drop
directory: ROOT/site/returns
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.05
afterwards: delete
format: {kind: csv, delimiter: ";"}
""",
    "sources/products.yaml": """source: products
on: {region: us}
kind: sql_table
connection: {sqlite: ROOT/site/erp.db}
table: products
mode: incrementing
column: id
key: [id]
poll_seconds: 0.05
""",
    "mappings/stock.yaml": "mapping: stock\nSTOCK",
    "mappings/returns.yaml": "mapping: returns\nSTOCK",
    "mappings/products.yaml": "mapping: products\ndocument: Product\nfields: {sku: sku, description: name}\n",
    "routes/all.yaml": 'when: document in ["StockLevel", "Product"]\nto: [finance, archive]\n',
    "sinks/archive.yaml": "sink: archive\nkind: file\ndirectory: ROOT/centre/archive\n",
    "sinks/finance.yaml": """sink: finance
kind: sql
url: sqlite:///ROOT/centre/finance.db
create_tables: true
tables:
  StockLevel: {table: stock, key: [location, sku], columns: {location: location, sku: sku, on_hand: on_hand}}
  Product: {table: products, key: [sku], columns: {sku: sku, name: description}}
""",
}
_PUSHED = {
    "sources/journal.yaml": """source: journal
on: {region: us}
kind: file_tail
directory: ROOT/site/log
pattern: "journal.log"
poll_seconds: 0.05
format: {kind: csv, delimiter: ";"}
""",
    "mappings/journal.yaml": "mapping: journal\nSTOCK",
}
_STOCK = "document: StockLevel\nfields: {location: LOC, sku: SKU, on_hand: {from: QTY, as: decimal}}\n"


def csv_of(skus: list[str]) -> str:
    return "LOC;SKU;QTY\n" + "".join(f"ATL1;{sku};{n}\n" for n, sku in enumerate(skus))


class Ground:
    """Where a transfer takes place: `root/site` is the agent's machine, `root/centre` the controller's.

    `reset` brings back the moment before the start: agent enrolled and never run, controller stopped, sources filled.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._kept = root / "ground", root / "kept"
        self.site, self.centre = self.root / "site", self.root / "centre"
        self.data = DataDirectory(self.centre / "controller")
        self.state = self.site / "agent-atl1"
        self.tree, self.pushed = root / "tree", root / "pushed"
        self._prepare()
        shutil.copytree(self.root, self._kept, symlinks=True)
        self.addresses = json.loads(self.data.addresses.read_text("utf-8"))

    def reset(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._kept, self.root, symlinks=True)

    def reset_to_nothing(self) -> None:
        """The moment before the controller's first start and the agent's enrolment; its ports are as ever."""
        self.reset()
        shutil.rmtree(self.state)
        shutil.rmtree(self.data.root)

    def drop_last_file(self) -> None:
        """And the end of the log."""
        name = next(reversed(ARCHIVED))
        temporary = self.site / "out" / f"{name}.tmp"
        temporary.write_text(csv_of(ARCHIVED[name]), "utf-8")
        temporary.rename(temporary.with_suffix(""))
        with (self.site / "log" / "journal.log").open("a", encoding="utf-8") as log:
            log.writelines(f"ATL1;{sku};1\n" for sku in LOGGED[3:])

    def _prepare(self) -> None:
        for directory in ("site/out", "site/returns", "site/log", "centre"):
            (self.root / directory).mkdir(parents=True)
        for name, skus in list(ARCHIVED.items())[:-1]:
            (self.site / "out" / name).write_text(csv_of(skus), "utf-8")
        for name, skus in DELETED.items():
            (self.site / "returns" / name).write_text(csv_of(skus), "utf-8")
        (self.site / "log" / "journal.log").write_text(
            "LOC;SKU;QTY\n" + "".join(f"ATL1;{sku};1\n" for sku in LOGGED[:3]), "utf-8"
        )
        with closing(sqlite3.connect(self.site / "erp.db")) as db, db:
            db.execute("CREATE TABLE products(id INTEGER PRIMARY KEY, sku TEXT, name TEXT)")
            db.executemany("INSERT INTO products(sku, name) VALUES(?, 'n')", [(sku,) for sku in TABLE])
        self._write(self.tree, _TREE)
        self._write(self.pushed, {**_TREE, **_PUSHED})
        link, enrollment = (f"127.0.0.1:{port}" for port in _own_ports())
        with Centre(self.centre, "--listen", link, "--enroll-listen", enrollment) as centre:
            centre.run("apply", str(self.tree))
            token = centre.json("token", "create", "--site", "atl1")["token"]
            subprocess.run(
                [sys.executable, "-m", "crossdock_agent", "enroll", "--token", token, "--state", str(self.state)],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip

    def _write(self, directory: Path, tree: dict[str, str]) -> None:
        for name, text in tree.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("STOCK", _STOCK).replace("ROOT", self.root.as_posix()), "utf-8")


def _own_ports() -> tuple[int, int]:
    """Two that nobody is given who asks for any: between two runs, and while the controller is dead, they are free."""
    found: list[int] = []
    while len(found) < 2:
        with closing(socket.socket()) as attempt, suppress(OSError):
            attempt.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            found.append(int(attempt.getsockname()[1]))
    return found[0], found[1]


EXPECTED = Counter(
    {
        **{("StockLevel", sku): 1 for skus in (*ARCHIVED.values(), *DELETED.values(), LOGGED) for sku in skus},
        **{("Product", sku): 1 for sku in TABLE},
    }
)
FIRST_HALF = EXPECTED - Counter({("StockLevel", sku): 1 for sku in (*ARCHIVED["stock3.csv"], *LOGGED)})


class Ledger:
    """What arrived and what became of the sources, read from the files themselves."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def written(self) -> Counter[tuple[str, str]]:
        """Lines of the file sink: nothing there hides a double."""
        found: Counter[tuple[str, str]] = Counter()
        for path in (self._ground.centre / "archive").glob("*.jsonl"):
            for line in path.read_text("utf-8").splitlines():
                body = json.loads(line)
                found[body["document"], body["body"]["sku"]] += 1
        return found

    def rows(self) -> Counter[tuple[str, str]]:
        """Rows of the SQL sink."""
        path = self._ground.centre / "finance.db"
        if not path.exists():
            return Counter()
        found: Counter[tuple[str, str]] = Counter()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
            for table, document in (("stock", "StockLevel"), ("products", "Product")):
                try:
                    found.update((document, sku) for (sku,) in db.execute(f"SELECT sku FROM {table}"))
                except sqlite3.OperationalError:  # not made yet
                    continue
        return found

    def reached(self, expected: Counter[tuple[str, str]]) -> bool:
        return not expected - self.written() and not expected - self.rows()

    def faults(self) -> list[str]:
        """Everything that is not as promised once all is quiet; nothing when the transfer is whole."""
        said = []
        for sink, found in (("archive", self.written()), ("finance", self.rows())):
            if lost := EXPECTED - found:
                said.append(f"{sink} lacks {sorted(lost)}")
            if doubled := found - EXPECTED:
                said.append(f"{sink} has too many of {sorted(doubled)}")
        return [*said, *self.site_faults(), *self._account_faults()]

    def site_faults(self) -> list[str]:
        site = self._ground.site
        kept = {p.name: p.read_text("utf-8") for p in (site / "out" / "archive").glob("*")}
        due = {name: csv_of(skus) for name, skus in ARCHIVED.items()}
        said = [] if kept == due else [f"archived are {sorted(kept)}, with their content should be {sorted(due)}"]
        left = sorted(p.name for directory in ("out", "returns") for p in (site / directory).iterdir() if p.is_file())
        return [*said, f"still there are {left}"] if left else said

    def _account_faults(self) -> list[str]:
        found = account(self._ground.data, time.time_ns() // 1000)
        due = {"stock": 12, "returns": 4, "products": 6, "journal": 6}
        said = [] if found.balanced else [f"the account does not balance: {found}"]
        said += [
            f"account of {line.source}: {line}"
            for line in found.sources
            if line.delivered != due[line.source] or line.pending or line.held or line.dead
        ]
        return said if len(found.sources) == len(due) else [*said, f"the account knows {len(found.sources)} sources"]


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started, on which machine, and what the points of a short one are counted as."""

    machine: str
    arguments: list[str]
    role: str | None = None


def commands(ground: Ground, token: Path) -> dict[str, Command]:
    """The two that run on, and what an operator types. *token*: the file with the answer to the one that makes one."""
    agent, controller = ([sys.executable, "-m", f"crossdock_{side}"] for side in ("agent", "controller"))
    data, state = ["--data", str(ground.data.root)], ["--state", str(ground.state)]
    listen = ["--listen", ground.addresses["link"], "--enroll-listen", ground.addresses["enrollment"]]
    listen += ["--api-listen", "none"]
    secret = json.loads(token.read_text("utf-8") or "{}").get("token", "") if token.exists() else ""
    return {
        "controller": Command("controller", [*controller, "controller", "run", *data, *listen]),
        "agent": Command("agent", [*agent, "run", *state]),
        "apply": Command("controller", [*controller, "apply", *data, str(ground.tree)], "push"),
        "push": Command("controller", [*controller, "apply", *data, str(ground.pushed)], "push"),
        "token": Command("controller", [*controller, "token", "create", "--site", "atl1", "--json", *data], "token"),
        "enroll": Command("agent", [*agent, "enroll", "--token", secret, *state], "enroll"),
    }


def base_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
