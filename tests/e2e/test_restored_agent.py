"""The agent's machine comes back from last month's snapshot, or a copy of it runs: nothing lost, nothing doubled."""

import datetime as dt
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from crossdock_agent import crypto
from crossdock_agent.identity import IdentityStore
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory
from support.gateway import wait_until
from support.processes import Centre, Process, command

TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {}\n",
    "sources/shipments.yaml": """source: shipments
on: {}
kind: file_drop
directory: "DROP"
pattern: "SHP*.csv"
settle_seconds: 0
poll_seconds: 0.1
afterwards: archive
format: {kind: csv, delimiter: ";"}
""",
    "mappings/shipments.yaml": """mapping: shipments
document: Shipment
fields: {number: NO, customer.name: CUSTOMER}
""",
    "routes/finance.yaml": 'when: document == "Shipment"\nto: [finance]\n',
    "sinks/finance.yaml": """sink: finance
kind: sql
url: sqlite:///finance.db
create_tables: true
tables:
  Shipment:
    table: shipment
    key: [number]
    columns: {number: number, customer: customer.name, sequence: $sequence}
""",
}


class Site:
    """A controller, one agent, the folder it watches, and snapshots of the agent's machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machine = directory / "machine"
        self.drop = self.machine / "drop"
        self.drop.mkdir(parents=True)
        self.centre = Centre(directory)
        self.shipped = 0

    def open(self) -> None:
        for name, text in TREE.items():
            path = self.directory / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("DROP", self.drop.as_posix()), "utf-8")
        self.centre.start()
        self.centre.run("apply", str(self.directory / "config"))
        enrolled = self.centre.enrol("atl1")
        self.state = self.machine / "state"
        shutil.move(self.directory / "agent-atl1", self.state)
        self.centre.agents.remove(enrolled)
        self.agent = self.process("agent", self.state).start()

    def process(self, name: str, state: Path) -> Process:
        process = Process(name, [command("crossdock-agent"), "run", "--state", str(state)], self.directory)
        self.centre.agents.append(process)
        return process

    def ship(self, files: int) -> None:
        """Files of two rows each."""
        for _ in range(files):
            number = self.shipped
            rows = "".join(f"S{number}-{i};Customer {number}\r\n" for i in range(2))
            (self.drop / f"SHP{number}.tmp").write_text("NO;CUSTOMER\r\n" + rows, "utf-8")
            (self.drop / f"SHP{number}.tmp").rename(self.drop / f"SHP{number}.csv")
            self.shipped += 1

    def wait_delivered(self, seconds: float = 120) -> None:
        """All that was shipped is in the sink, and the archive holds every file."""
        wait_until(lambda: len(self.sink()) == 2 * self.shipped, f"{2 * self.shipped} rows are delivered", seconds)
        wait_until(lambda: not list(self.drop.glob("SHP*.csv")), "every file is archived", seconds)

    def sink(self) -> list[str]:
        """Numbers in the sink; a row that was written twice would have been counted by its sequence."""
        path = self.centre.data / "finance.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as db:
            try:
                return [row[0] for row in db.execute("SELECT number FROM shipment ORDER BY number")]
            except sqlite3.OperationalError:  # its tables are made with the first delivery
                return []

    def status(self) -> str:
        done = subprocess.run(
            [command("crossdock-agent"), "status", "--state", str(self.state)],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        return done.stdout

    def close(self) -> None:
        for process in (*self.centre.agents, self.centre.process):
            process.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        site.open()
        yield site
    finally:
        site.close()


def expire(state: Path, data: Path, days: int) -> None:
    """The certificate becomes one that ended so many days ago, signed by the controller's own authority."""
    store = IdentityStore(state)
    key, csr = crypto.new_key_and_request()
    then = dt.datetime.now(dt.UTC) - dt.timedelta(days=days + 1)
    authority = Authority.open(DataDirectory(data).authority)
    issued = authority.issue_agent(csr, store.current().agent, dt.timedelta(days=1), then)
    old = msgspec.structs.replace(
        store.current(), certificate=issued.certificate, issued_us=int(then.timestamp() * 1e6),
        expires_us=issued.expires_us,
    )  # fmt: skip
    store.save(old, key)


def test_a_machine_restored_from_last_months_snapshot_loses_and_doubles_nothing(site: Site) -> None:
    site.ship(3)
    site.wait_delivered()
    site.agent.stop()
    site.ship(2)  # in the folder, not read yet, when the snapshot is taken
    snapshot = site.directory / "snapshot"
    shutil.copytree(site.machine, snapshot)
    site.agent.start()
    site.wait_delivered()
    site.ship(4)
    site.wait_delivered()
    site.agent.stop()

    shutil.rmtree(site.machine)  # a month later: outbox, folder and identity as they were
    shutil.copytree(snapshot, site.machine)
    expire(site.state, site.centre.data, 30)
    site.ship(1)  # and work goes on at once
    site.agent.start()
    wait_until(lambda: "crossdock token create --site atl1 --agent atl1" in site.status(), "it says what to do", 60)
    assert "not connected" in site.status()

    site.agent.stop()
    token = site.centre.json("token", "create", "--site", "atl1", "--agent", "atl1")["token"]
    subprocess.run(
        [command("crossdock-agent"), "enroll", "--token", token, "--state", str(site.state)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    site.agent.start()
    site.ship(2)
    site.wait_delivered()
    wait_until(lambda: "restored from a backup" in site.status(), "a person is told", 60)

    wait_until(lambda: site.centre.json("account")["total"]["pending"] == 0, "all is decided", 60)
    total = site.centre.json("account")["total"]
    assert total["balanced"]
    assert total["delivered"] == 2 * site.shipped, total
    assert total["in"] == total["delivered"] + total["duplicates"]
    assert total["dead"] == 0
    assert len(site.sink()) == 2 * site.shipped


def test_a_clone_is_refused_and_told_of_on_both_sides_and_sends_nothing(site: Site) -> None:
    site.ship(2)
    site.wait_delivered()
    clone = site.directory / "clone"
    shutil.copytree(site.state, clone, ignore=shutil.ignore_patterns("agent.lock"))
    before = site.centre.json("account")["total"]["in"]
    second = site.process("clone", clone).start()

    def told_there() -> bool:
        path = clone / "status.json"
        return path.exists() and any("a clone?" in p for p in json.loads(path.read_text("utf-8"))["problems"])

    wait_until(told_there, "the clone says so", 60)

    def told_here() -> bool:
        (agent,) = site.centre.json("agents")["agents"]
        return agent["state"] == "connected" and any("a cloned machine?" in p for p in agent["problems"])

    wait_until(told_here, "and so does the controller", 60)
    assert site.centre.json("account")["total"]["in"] == before, "nothing of the clone was taken"
    second.stop()
    site.ship(1)
    site.wait_delivered()
    assert site.centre.json("account")["total"]["in"] == before + 2
