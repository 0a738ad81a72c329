"""A fleet of real agent processes with light settings, and a configuration that can be broken in one place."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from crossdock_agent.configuration import read_current
from crossdock_agent.enrolment import enroll
from crossdock_agent.settings import Settings
from crossdock_controller.commands.enrolment import create_token
from crossdock_controller.paths import DataDirectory
from support.gateway import wait_until
from support.processes import Centre, Process, command

STOCK = """source: stock
on: {}
kind: file_drop
directory: ${root}/DIRECTORY
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 1
lane: LANE
format: {kind: csv, delimiter: ";"}
"""
MOVES = """source: moves
on: {}
kind: file_tail
directory: ${root}/logs
pattern: "*.log"
poll_seconds: 1
format: {kind: lines}
"""
MAPPING = """mapping: stock
document: StockLevel
fields:
  sku: SKU
  location: LOC
  on_hand: {from: QTY, as: decimal}
"""
SINK = """sink: erp
kind: sql
url: "sqlite:///DATABASE"
create_tables: true
tables:
  StockLevel: {table: stock, key: [sku, location], columns: {sku: sku, location: location, on_hand: on_hand.value}}
"""


def names(count: int) -> list[str]:
    return [f"s{number:02}" for number in range(1, count + 1)]


class RolloutFleet:
    """A controller and an agent process for each of *sites*; the tree lies in *tree*."""

    def __init__(self, directory: Path, sites: list[str]) -> None:
        self.directory = directory
        self.sites = sites
        self.centre = Centre(directory)
        self.tree = directory / "tree"
        self.database = directory / "erp.db"
        self.agents: dict[str, Process] = {}
        self._read = dict.fromkeys(sites, 0)  # lines of each agent's log that an earlier test is about
        self._write()

    def __enter__(self) -> RolloutFleet:
        self.centre.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.agents.values():
            if process.alive():
                process.kill()  # fifty polite ends one after the other take a minute
            process.stop()
        self.centre.__exit__()

    def drop(self, site: str) -> Path:
        return self.directory / "sites" / site / "drop"

    def write(self, name: str, text: str) -> None:
        (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / name).write_text(text, "utf-8")

    def stock(self, *, directory: str = "drop", lane: str = "standard") -> None:
        """The source of that name, as the next revision has it."""
        self.write("sources/stock.yaml", STOCK.replace("DIRECTORY", directory).replace("LANE", lane))

    def enrol(self) -> None:
        """Every site's agent, not started yet; without two processes for each of them."""
        data = DataDirectory(self.centre.data)

        def one(site: str) -> None:
            made = create_token(data, site, "", 3600, time.time_ns() // 1000, by="local:test")
            enroll(made.token, self.state(site))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, self.sites))

    def begin(self) -> None:
        """Revision 1 is in force, and every agent runs it."""
        self.centre.run("apply", str(self.tree), "-m", "first")
        self.enrol()
        self.start_all()
        self.wait_until_all_run(1)

    def settle(self) -> None:
        """Whatever an earlier test left: no rollout runs, every agent is there and runs the first tree."""
        if not self.centre.process.alive():
            self.centre.start()
        for site, process in self.agents.items():
            if process.alive():
                process.resume()
            else:
                self.start(site)
        if self.ask("SELECT 1 FROM rollouts WHERE state IN ('rolling', 'held')"):
            self.centre.run("rollout", "halt", "-m", "another test begins")
        self.wait(lambda: not self.ask("SELECT 1 FROM rollouts WHERE state = 'reverting'"), "no rollout runs")
        for path in (self.tree / "sources").iterdir():
            path.unlink()
        self._write()
        self.centre.run("apply", str(self.tree))
        self.wait_until_all_run(self.in_force())
        for site in self.sites:
            self._read[site] = len(self._log(site))

    def in_force(self) -> int:
        """The revision."""
        return next(r["revision"] for r in self.centre.json("history")["revisions"] if r["current"])

    def next(self) -> int:
        """The number of the revision that is applied next."""
        return int(self.ask("SELECT max(number) + 1 FROM revisions")[0][0])

    def running(self, revision: int) -> set[str]:
        """Agents that run *revision*."""
        return {row[0] for row in self.ask("SELECT agent FROM agents WHERE revision = ?", revision)}

    def deliver(self, site: str, name: str, records: int) -> None:
        """A file of so many records at *site*."""
        lines = [f"{site}-{name}-{number};A1;{number}" for number in range(records)]
        part = self.drop(site) / f"{name}.part"
        part.write_text("\n".join(["SKU;LOC;QTY", *lines]) + "\n", "utf-8")
        part.rename(self.drop(site) / f"{name}.csv")

    def arrived(self) -> int:
        """Rows in the sink."""
        if not self.database.exists():
            return 0
        with closing(sqlite3.connect(self.database, timeout=30)) as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'stock'").fetchone()
            return int(db.execute("SELECT count(*) FROM stock").fetchone()[0]) if known else 0

    def refused(self, *arguments: str) -> str:
        """What `crossdock ARGUMENTS` says as it refuses."""
        env = {**os.environ, "CROSSDOCK_DATA": str(self.centre.data)}
        done = subprocess.run(
            [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", env=env, timeout=120, check=False
        )
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def start(self, site: str) -> Process:
        arguments = [command("crossdock-agent"), "run", "--state", str(self.state(site))]
        self.agents[site] = Process(f"agent-{site}", arguments, self.directory)
        self.agents[site].start()
        return self.agents[site]

    def start_all(self, gap_seconds: float = 0.1) -> None:
        for site in self.sites:
            self.start(site)
            time.sleep(gap_seconds)

    def state(self, site: str) -> Path:
        return self.directory / f"agent-{site}"

    def runs(self, site: str) -> int:
        """The revision that the site's agent keeps on its own disk, as the last good one or on probation."""
        kept = read_current(Settings(state=str(self.state(site))).config_path)
        return kept.revision if kept else 0

    def ever_applied(self, site: str) -> list[int]:
        """Every revision that the agent's own log says it applied, in order; since `settle`."""
        return [_revision(line) for line in self._log(site)[self._read[site] :] if "configuration applied" in line]

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.centre.json("rollout")["rollout"]
        return found

    def wait_for(self, state: str, seconds: float = 180) -> dict[str, Any]:
        """The rollout, once it is in *state*."""
        wait_until(lambda: self.row()[0] in {state, *_ENDS}, f"the rollout is {state}", seconds)
        found = self.rollout()
        assert found["state"] == state, found
        return found

    def row(self) -> tuple[str, int, dict[str, Any]]:
        """(state, waves begun, progress) of the newest rollout, as it is stored: cheap to ask."""
        rows = self.ask("SELECT state, progress FROM rollouts ORDER BY revision DESC LIMIT 1")
        progress = json.loads(rows[0][1])
        return rows[0][0], len(progress["begun"]), progress

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.centre.data / "state.db", timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def wait_until_all_run(self, revision: int, sites: list[str] | None = None, seconds: float = 240) -> None:
        wanted = set(sites or self.sites)

        def run() -> bool:
            rows = self.ask("SELECT agent FROM agents WHERE connected = 1 AND revision = ?", revision)
            return wanted <= {row[0] for row in rows}

        self.wait(run, f"every agent runs revision {revision}", seconds)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
        wait_until(lambda: condition() or not self.centre.process.alive(), what, seconds)
        assert self.centre.process.alive(), self.centre.process.tail()

    def _log(self, site: str) -> list[str]:
        return (self.directory / f"agent-{site}.log").read_text("utf-8", "replace").splitlines()

    def _write(self) -> None:
        for site in self.sites:
            root = self.directory / "sites" / site
            (root / "drop").mkdir(parents=True, exist_ok=True)
            (root / "logs").mkdir(exist_ok=True)
            region = "us" if site < "s26" else "eu"
            text = f"site: {site}\nlabels: {{region: {region}}}\nvariables: {{root: {root.as_posix()}}}\n"
            self.write(f"sites/{site}.yaml", text)
        self.stock()
        self.write("sources/moves.yaml", MOVES)
        self.write("mappings/stock.yaml", MAPPING)
        self.write("routes/stock.yaml", 'when: document == "StockLevel"\nto: [erp]\n')
        self.write("sinks/erp.yaml", SINK.replace("DATABASE", self.database.as_posix()))


_ENDS = ("complete", "reverted")


def _revision(line: str) -> int:
    found = [part.partition("=")[2] for part in line.split() if part.startswith("revision=")]
    return int(found[0].strip(",")) if found else -1
