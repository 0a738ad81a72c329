"""A first site, as the quick start tells it: real processes, every step through the commands a person types."""

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.gateway import wait_until
from support.processes import Centre, Process, command

TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\nzone: America/New_York\n",
    "sources/wms-shipments.yaml": """source: wms-shipments
on: {region: us}
kind: file_drop
directory: "DROP"
pattern: "SHP*.csv"
settle_seconds: 0
poll_seconds: 0.1
format: {kind: csv, delimiter: ";", encoding: cp1252}
""",
    "mappings/wms-shipments.yaml": """mapping: wms-shipments
document: Shipment
each: SHIPMENT_NO
fields:
  number: SHIPMENT_NO
  customer.name: CUSTOMER
  lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
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
    columns: {number: number, customer: customer.name}
    children:
      - each: lines
        table: line
        parent: {number: number}
        columns: {position: $index, sku: sku, quantity: quantity.value}
""",
}


class Site:
    """A controller, one enrolled agent that runs, and the folder it watches."""

    def __init__(self, directory: Path) -> None:
        self.drop = directory / "drop"
        self.drop.mkdir()
        self.centre = Centre(directory)
        self.agent: Process | None = None
        for name, text in TREE.items():
            path = directory / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("DROP", self.drop.as_posix()), "utf-8")
        self._config = directory / "config"

    def open(self) -> None:
        self.centre.start()
        self.centre.run("apply", str(self._config), "-m", "first site")
        self.agent = self.centre.enrol("atl1").start()
        wait_until(lambda: self.state() == "connected", "the agent is connected", 30)

    def state(self) -> str:
        found = self.centre.json("agents")["agents"]
        return found[0]["state"] if found else ""

    def ship(self, name: str, *lines: str) -> None:
        text = "\r\n".join(["SHIPMENT_NO;CUSTOMER;ITEM;QTY", *lines]) + "\r\n"
        (self.drop / f"{name}.tmp").write_bytes(text.encode("cp1252"))
        (self.drop / f"{name}.tmp").rename(self.drop / f"{name}.csv")

    def lines(self) -> list[tuple[Any, ...]]:
        path = self.centre.data / "finance.db"
        if not path.exists():
            return []
        query = (
            "SELECT number, customer, sku, quantity FROM shipment JOIN line USING (number) ORDER BY number, position"
        )
        with closing(sqlite3.connect(path)) as db:
            try:
                return db.execute(query).fetchall()
            except sqlite3.OperationalError:  # its tables are made with the first delivery
                return []

    def close(self) -> None:
        if self.agent is not None:
            self.agent.stop()
        self.centre.process.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        site.open()
        yield site
    finally:
        site.close()


def test_a_file_arrives_is_traced_accounted_for_and_its_bad_line_is_mended(site: Site) -> None:
    site.ship("SHP1", "S1;Müller & Söhne;A-1;1,5", "S1;Müller & Söhne;B-2;2", "S2;Peachtree;A-1;zwölf")
    wait_until(lambda: len(site.lines()) == 2, "the good shipment is in the sink", 30)
    assert site.lines() == [("S1", "Müller & Söhne", "A-1", "1.5"), ("S1", "Müller & Söhne", "B-2", "2")]

    found = site.centre.json("trace", "shipment", "S1")
    assert [e["what"] for e in found["entries"]] == ["read", "received", "normalized", "delivery"]
    facts = found["entries"][1]["facts"]
    assert (facts["place"], facts["agent"], facts["site"]) == ("SHP1.csv line 2", "atl1", "atl1")
    assert found["verdict"] == "delivered to finance"

    (letter,) = site.centre.json("dead", "list")["dead_letters"]
    assert (letter["place"], letter["rows"][0]["QTY"]) == ("SHP1.csv line 4", "zwölf")
    site.centre.run("dead", "retry", str(letter["id"]), "--set", "QTY=12")
    wait_until(lambda: len(site.lines()) == 3, "the mended shipment is in the sink", 30)
    assert site.lines()[2] == ("S2", "Peachtree", "A-1", "12")

    def account() -> Any:
        return site.centre.json("account")

    wait_until(lambda: account()["total"]["delivered"] == 3, "the account says so too", 30)
    total = account()["total"]
    assert (total["in"], total["dead"], total["pending"], total["balanced"]) == (3, 0, 0, True)
    status = site.centre.json("status")
    assert (status["controller"]["state"], status["revision"]["message"]) == ("up", "first site")
    assert status["next"] == []
    assert "All is well." in site.centre.run("status")


def test_a_token_works_once_and_a_revoked_agent_is_cut_off(site: Site, tmp_path: Path) -> None:
    token = site.centre.json("token", "create", "--site", "atl1", "--agent", "atl1-b")["token"]

    def enroll(state: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command("crossdock-agent"), "enroll", "--token", token, "--state", str(tmp_path / state)],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip

    assert enroll("b").returncode == 0
    again = enroll("c")
    assert again.returncode == 1
    assert "crossdock token create" in again.stderr
    site.centre.run("agents", "revoke", "atl1")
    assert site.state() == "revoked"
    wait_until(lambda: "agent revoked" in site.centre.process.tail(200), "its streams are cut", 30)
    site.ship("SHP9", "S9;Nobody;A-1;1")
    log = site.centre.process.tail
    wait_until(lambda: "on no allow-list was refused" in log(200), "it came again, and was refused", 30)
    assert site.centre.json("account")["sources"] == []


def test_two_controllers_never_share_a_directory_or_a_port(site: Site, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        for data, listen, words in (
            (site.centre.data, "127.0.0.1:0", "is in use by a controller"),
            (tmp_path / "other", busy, "cannot listen"),
        ):
            done = subprocess.run(
                [command("crossdock"), "controller", "run", "--data", str(data), "--listen", listen,
                 "--api-listen", "none"],
                capture_output=True, encoding="utf-8", timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 1, done.stderr
            assert words in done.stderr
            assert "next:" in done.stderr
            assert "Traceback" not in done.stderr
    assert json.loads(site.centre.run("agents", "--json"))["agents"][0]["agent"] == "atl1"
