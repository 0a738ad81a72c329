"""The agent as a service on somebody else's server: it comes and goes, sleeps, and is in nobody's way.

Real processes: the controller, the agent, and every command as an operator types it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from crossdock.machine import VARIABLE
from crossdock_agent.identity import IdentityStore
from crossdock_agent.keystore import CREDENTIAL, Keystore, scheme_of
from support.gateway import wait_until
from support.processes import Centre, Process, command

TREE = {
    "sites/atl1.yaml": "site: atl1\n",
    "sources/shipments.yaml": """source: shipments
on: {}
kind: file_drop
directory: "DROP"
pattern: "SHP*.csv"
settle_seconds: 0
poll_seconds: POLL
format: {kind: csv, delimiter: ";"}
""",
    "sources/orders.yaml": """source: orders
on: {}
kind: sql_table
connection: {sqlite: "ERP"}
table: orders
mode: incrementing
column: id
poll_seconds: POLL
""",
    "mappings/shipments.yaml": "mapping: shipments\ndocument: Shipment\nfields: {number: NO}\n",
    "mappings/orders.yaml": "mapping: orders\ndocument: SalesOrder\nfields: {number: id}\n",
}


class Site:
    def __init__(self, directory: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.drop, self.erp = directory / "drop", directory / "erp.db"
        self.drop.mkdir()
        with closing(sqlite3.connect(self.erp)) as db:
            db.executescript("CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1), (2);")
        self.centre = Centre(directory, *arguments)
        self.state = directory / "agent-atl1"
        try:
            self.centre.start()
            self.apply(0.1)
            self.agent: Process = self.centre.enrol("atl1", env)
        except BaseException:
            self.close()
            raise

    def apply(self, poll: float) -> None:
        for name, text in TREE.items():
            path = self.directory / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            said = text.replace("DROP", self.drop.as_posix()).replace("ERP", self.erp.as_posix())
            path.write_text(said.replace("POLL", str(poll)), "utf-8")
        self.centre.run("apply", str(self.directory / "config"))

    def ship(self, number: int) -> None:
        beside = self.drop / f"SHP{number}.tmp"
        beside.write_text(f"NO\r\nS{number}\r\n", "utf-8")
        beside.rename(beside.with_suffix(".csv"))

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.state / "status.json").read_bytes())  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {"revision": 0, "link": "", "problems": [], "written_us": 0}

    def arrived(self) -> int:
        return int(self.centre.json("account")["total"]["in"])

    def close(self) -> None:
        for process in (*self.centre.agents, self.centre.process):
            process.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_configuration_rolled_back_while_the_agent_is_off_reaches_it_at_its_next_start(site: Site) -> None:
    """LESSONS row 35: the rollback of somebody else's agent failed when its service was off."""
    site.agent.start()
    wait_until(lambda: site.status()["revision"] == 1, "revision 1 runs")
    site.apply(0.2)
    wait_until(lambda: site.status()["revision"] == 2, "revision 2 runs")
    kept = site.state / "last-good.json"
    wait_until(lambda: kept.exists() and json.loads(kept.read_bytes())["revision"] == 2, "and is kept")
    site.agent.stop()
    site.centre.run("rollback", "1")
    site.agent.start()
    wait_until(lambda: site.status()["revision"] == 3, "what it was rolled back to runs")
    (agent,) = site.centre.json("agents")["agents"]
    assert agent["problems"] == []
    wait_until(lambda: json.loads(kept.read_bytes())["revision"] == 3, "and is kept")
    config = json.loads(kept.read_bytes())["config"]
    sources = json.loads(base64.b64decode(config))["sources"]
    assert {s["settings"]["poll_seconds"] for s in sources} == {0.1}


@pytest.mark.skipif(os.name == "nt", reason="SIGSTOP and credentials are of POSIX")
@pytest.mark.slow
def test_an_agent_that_slept_past_the_end_of_its_certificate_goes_on_by_itself_and_its_key_stays_wrapped(
    tmp_path: Path,
) -> None:
    """A machine that is suspended: its process knows nothing of the time that went by."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / CREDENTIAL).write_bytes(b"0123456789abcdef" * 2)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    site = Site(tmp_path, "--certificate-hours", "0.002", env=environ)  # 7.2 seconds
    try:
        (plain,) = (site.state / "identity").glob("key-*")
        assert b"PRIVATE KEY" in plain.read_bytes()  # a person's enroll has no credential
        site.agent.start()
        site.ship(1)
        wait_until(lambda: site.arrived() == 3, "all is read")
        before = IdentityStore(site.state).current()
        site.agent.pause()
        site.ship(2)
        wait_until(lambda: IdentityStore(site.state).current().expires_us < _now_us(), "its certificate has ended")
        site.centre.process.kill()  # and the connections of before are gone
        site.centre.start()
        site.agent.resume()
        wait_until(lambda: IdentityStore(site.state).current().expires_us > before.expires_us, "it is let in", 120)
        wait_until(lambda: site.arrived() == 4, "what came meanwhile arrives", 120)
        wait_until(lambda: site.status()["link"] == "connected" and not site.status()["problems"], "all is well")
        assert site.agent.alive()
        site.agent.stop()
        (wrapped,) = (site.state / "identity").glob("key-*")
        assert scheme_of(wrapped.read_bytes(), wrapped) == "credential"
        assert b"PRIVATE KEY" in IdentityStore(site.state, Keystore(environ)).key()
        assert not any(b"PRIVATE KEY" in f.read_bytes() for f in site.state.rglob("*") if f.is_file())
    finally:
        site.close()


def test_an_agent_holds_nothing_that_another_service_of_the_machine_needs(site: Site) -> None:
    """LESSONS row 36: after an agent was installed, a service of the ERP could not start again."""
    site.agent.start()
    site.ship(1)
    wait_until(lambda: site.arrived() == 3, "file and table are read")
    wait_until(lambda: _at_rest(site), "it is at rest")
    agent = psutil.Process(site.agent.pid)
    family = [agent, *agent.children(recursive=True)]
    listening = [c for process in family for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == []
    with closing(sqlite3.connect(site.erp, timeout=30)) as db:  # the ERP locks its whole database to start
        db.execute("BEGIN EXCLUSIVE")
        db.execute("INSERT INTO orders VALUES (3)")
        db.commit()
    moved = site.directory / "moved"
    wait_until(lambda: _moved(site.drop, moved), "the ERP may rename its folder")
    _moved(moved, site.drop)
    with socket.socket() as port:  # and any port is free, the agent's own connections aside
        port.bind(("127.0.0.1", 0))
        port.listen()
    wait_until(lambda: site.arrived() == 4, "and the agent reads on")
    shutil.rmtree(site.drop)  # uninstalled
    site.drop.mkdir()
    site.ship(2)
    wait_until(lambda: site.arrived() == 5, "a new folder is read")


def _at_rest(site: Site) -> bool:
    """No file of the folder is open. A SQLite file stays open between two polls, for reading and without a lock."""
    held = [Path(f.path) for f in psutil.Process(site.agent.pid).open_files()]
    return not [f for f in held if f.is_relative_to(site.drop)]


def _moved(what: Path, to: Path) -> bool:
    try:
        what.rename(to)
    except OSError:
        return False
    return True


def _now_us() -> int:
    return time.time_ns() // 1000


def test_the_service_of_an_agent_without_an_identity_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [command("crossdock-agent"), "service", "run", "--state", str(tmp_path)],
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert ("for Windows services" in done.stderr) == (sys.platform != "win32")
    assert "crossdock-agent run" in done.stderr


@pytest.mark.slow
def test_new_hardware_takes_an_agent_over_by_a_word_at_both_ends(tmp_path: Path) -> None:
    site = Site(tmp_path, env={VARIABLE: "1" * 32})
    try:
        site.agent.start()
        site.ship(1)
        wait_until(lambda: site.arrived() == 3, "all is read")
        site.agent.stop()
        here = {**os.environ, VARIABLE: "2" * 32}
        run = [command("crossdock-agent"), "run", "--state", str(site.state)]
        refused = subprocess.run(run, env=here, capture_output=True, encoding="utf-8", timeout=60, check=False)
        assert refused.returncode == 1
        assert "'crossdock agents move atl1', here 'crossdock-agent bind'" in refused.stderr
        bind = [command("crossdock-agent"), "bind", "--state", str(site.state)]
        subprocess.run(bind, env=here, capture_output=True, timeout=60, check=True)
        moved = Process("moved", run, tmp_path, {VARIABLE: "2" * 32})
        site.centre.agents.append(moved)
        moved.start()
        wait_until(lambda: any("control:" in p for p in site.status()["problems"]), "one end alone does not do", 120)
        moved.stop()
        site.centre.run("agents", "move", "atl1")
        moved.start()
        site.ship(2)
        wait_until(lambda: site.arrived() == 4, "it goes on here")
    finally:
        site.close()
