"""Real agents on certificates that live seconds: they renew, are told from their copies, and nobody locks out unseen.
The controller runs in this process, so that its certificates may live shorter than its command line allows."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chaos.shim import Shim, usable
from crossdock.v1 import link_pb2
from crossdock_controller import exits
from crossdock_controller.cli import root
from crossdock_controller.commands import enrolment
from crossdock_controller.commands.risks import LEVELS
from crossdock_controller.store import certificates, connection
from support.gateway import Gateway, running_gateway, stub, wait_until
from support.processes import Process, command

pytestmark = pytest.mark.slow
LIFE_SECONDS = 10.0
BY = "local:test"


class Fleet:
    """Agents of one gateway, each with a state directory of its own; the operator's commands on its data."""

    def __init__(self, directory: Path, gateway: Gateway) -> None:
        self.directory = directory
        self.gateway = gateway
        self._processes: list[Process] = []

    def run(self, *arguments: str) -> Result:
        env = {"CROSSDOCK_DATA": str(self.gateway.data.root), "COLUMNS": "300"}
        return CliRunner().invoke(root, arguments, env=env)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def enrol(self, name: str, env: dict[str, str] | None = None) -> Path:
        """The state directory of a new agent."""
        made = enrolment.create_token(self.gateway.data, name, "", 600, _now_us(), by=BY)
        state = self.directory / name
        done = subprocess.run(
            [command("crossdock-agent"), "enroll", "--token", made.token, "--state", str(state)],
            capture_output=True, encoding="utf-8", timeout=120, check=False, env={**os.environ, **(env or {})},
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return state

    def start(self, state: Path, env: dict[str, str] | None = None) -> Process:
        process = Process(state.name, [command("crossdock-agent"), "run", "--state", str(state)], self.directory, env)
        self._processes.append(process)
        return process.start()

    def stop(self) -> None:
        for process in self._processes:
            process.stop()

    def connected(self, agent: str) -> bool:
        return any(a["agent"] == agent and a["state"] == "connected" for a in self.json("agents")["agents"])

    def risks(self, kind: str) -> list[dict[str, Any]]:
        return [risk for risk in self.json("fleet", "risks")["risks"] if risk["kind"] == kind]


def _now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A fleet on a gateway with these settings."""
    with ExitStack() as stack:

        def open_(**settings: object) -> Fleet:
            gateway = stack.enter_context(running_gateway(tmp_path / "controller", **settings))
            fleet = Fleet(tmp_path, gateway)
            stack.callback(fleet.stop)
            return fleet

        yield open_


def test_an_agent_renews_at_two_thirds_and_a_stolen_older_certificate_is_refused_and_shown(
    opened: Callable[..., Fleet],
) -> None:
    fleet = opened(certificate_hours=LIFE_SECONDS / 3600)
    state = fleet.enrol("atl1")
    agent = fleet.start(state)
    wait_until(lambda: fleet.connected("atl1"), "it is connected", 120)
    copy = fleet.directory / "copy"
    shutil.copytree(state / "identity", copy / "identity")

    def used() -> list[certificates.Certificate]:
        with closing(connection.connect(fleet.gateway.data.state)) as db:
            return [c for c in certificates.of_agent(db, "atl1") if c.use_order]

    wait_until(lambda: any(c.how == "renewal" for c in used()), "its certificate was renewed and is used", 120)
    renewal = next(c for c in used() if c.how == "renewal")
    before = max(c.issued_us for c in used() if c.use_order < renewal.use_order)
    assert renewal.issued_us - before >= (LIFE_SECONDS * 2 / 3 - 1) * 1e6  # in whole seconds
    agent.stop()
    wait_until(lambda: not fleet.connected("atl1"), "it is away")
    stolen = fleet.start(copy)
    wait_until(lambda: fleet.risks("identity") != [], "the copy is refused and shown", 120)
    stolen.stop()
    (shown,) = fleet.risks("identity")
    assert "an older certificate than its newest is used from 127.0.0.1" in shown["sentence"]
    assert not fleet.connected("atl1")
    assert "an older certificate" in fleet.run("status").stdout


def test_the_end_of_an_agent_that_stays_away_is_announced_ever_more_urgently(opened: Callable[..., Fleet]) -> None:
    fleet = opened(certificate_hours=5 / 3600, grace_days=5 / 86400)
    identity, _ = fleet.gateway.enroll(fleet.gateway.token())
    hello = link_pb2.Report(hello=link_pb2.Hello(protocol=1, version="1", instance=b"i", epoch=b"e" * 16))
    with fleet.gateway.link(identity) as channel:
        assert next(iter(stub(channel).Control(iter([hello]), timeout=60))).HasField("welcome")
    levels: list[str] = []

    def locked() -> bool:
        found = fleet.run("fleet", "risks", "--json")
        risks = json.loads(found.stdout)["risks"]
        levels.extend(r["level"] for r in risks if r["kind"] == "certificate" and r["subject"] == "atl1")
        pressing = any(r["level"] in LEVELS[:3] for r in risks)
        assert found.exit_code == (exits.PRESSING if pressing else 0)
        return "locked" in levels

    wait_until(locked, "its end was announced and came", 120)
    order = [LEVELS.index(level) for level in levels]
    assert order == sorted(order, reverse=True)
    told = fleet.run("fleet", "risks").stdout
    assert "agent atl1 is locked out: its certificate ended" in told
    assert "next: crossdock token create --site atl1 --agent atl1" in told


@pytest.mark.skipif(not usable(), reason="the clock of one process cannot be moved there")
def test_agents_whose_clocks_are_off_by_minutes_in_both_directions_get_in_and_are_told_of(
    opened: Callable[..., Fleet], tmp_path: Path
) -> None:
    fleet = opened()
    shim = Shim(tmp_path / "shim")
    for name, seconds in (("ahead", 600.0), ("behind", -600.0)):
        shim.set(name, seconds)
        env = shim.environment(name)
        fleet.start(fleet.enrol(name, env), env)
    for name, way in (("ahead", "ahead of"), ("behind", "behind")):
        wait_until(lambda n=name: fleet.connected(n), f"{name} is connected", 120)  # type: ignore[misc]

        def told(n: str = name, w: str = way) -> bool:
            return any(
                r["subject"] == n and f"10 min {w} ours" in r["sentence"].replace("9 min 59 s", "10 min")
                for r in fleet.risks("clock")
            )

        wait_until(told, f"the clock of {name} is told of", 120)
    assert all(r["level"] == "notice" for r in fleet.risks("clock"))


@pytest.mark.skipif(sys.platform == "win32", reason="the line for a Linux shell")
def test_the_line_that_is_pasted_waits_for_a_person_who_compares_the_code(
    opened: Callable[..., Fleet], tmp_path: Path
) -> None:
    fleet = opened(approve_enrolments=True)
    pasted = fleet.run("token", "create", "--site", "atl1", "--uses", "3", "--for", "linux").stdout.strip()
    assert "\n" not in pasted
    sudo = tmp_path / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    path = os.pathsep.join((str(sudo.parent), str(Path(command("crossdock-agent")).parent), os.environ["PATH"]))
    state = tmp_path / "site"
    shell = Process("paste", ["sh", "-c", f"{pasted} --state '{state}'"], tmp_path, {"PATH": path}).start()
    try:
        wait_until(lambda: fleet.json("agents", "pending")["pending"] != [], "it waits", 120)
        (waits,) = fleet.json("agents", "pending")["pending"]
        wait_until(lambda: waits["code"] in shell.log.read_text("utf-8"), "the site shows the same code", 120)
        assert waits["agent"].startswith("atl1-")
        (risk,) = fleet.risks("approval")
        assert (risk["level"], waits["code"] in risk["next"]) == ("urgent", True)
        done = fleet.run("agents", "approve", waits["agent"], "--code", waits["code"])
        assert done.exit_code == 0, done.output
        wait_until(lambda: not shell.alive(), "the enrolment ends", 120)
        assert shell.code == 0, shell.tail()
    finally:
        shell.stop()
    fleet.start(state)
    wait_until(lambda: fleet.connected(waits["agent"]), "it is connected", 120)
    assert fleet.risks("approval") == []
