"""The web process dies, is kept from its port, and comes back; nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.estate import TREE
from support.gateway import wait_until
from support.people import Api, started
from support.processes import Centre


def _audit(api: Api, admin: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post("audit.list", admin, filters).body
    return found


@pytest.mark.slow
def test_a_killed_web_process_comes_back_and_a_restart_keeps_everything(tmp_path: Path) -> None:
    api = started(tmp_path)
    try:
        admin = api.first_token()
        assert api.post("apply", admin, {"tree": TREE, "message": ""}).status == 200
        anna = api.user("anna", "viewer", "region=us")
        controller = psutil.Process(api.centre.process.pid)
        others = {p.pid for p in controller.children()} - {api.pid}
        first = api.pid
        os.kill(first, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(first) or api.pid != first, "it is gone", 60)
        wait_until(lambda: api.pid != first and api.up(), "another answers", 60)
        assert {p.pid for p in controller.children()} - {api.pid} == others, "nobody else noticed"
        assert api.centre.json("status")["controller"]["state"] == "up"
        assert api.post("agents", anna).status == 200
        api.centre.process.stop()
        api.centre.start()
        wait_until(api.up, "it answers again", 120)
        assert api.post("users.list", admin).status == 200
        assert api.post("agents", anna).status == 200
        assert not (api.centre.data / "first-admin-token").exists()
        actions = [e["action"] for e in _audit(api, admin, actor="controller", limit=20)]
        assert actions[:3] == ["controller.start", "controller.stop", "controller.start"]
        verified = api.centre.json("audit", "verify")
        assert (verified["sound"], verified["heads"] >= 2, verified["foreign"]) == (True, True, 0)
    finally:
        api.centre.process.stop()


def test_an_api_whose_port_is_taken_waits_for_it_and_the_controller_works_on(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Centre(tmp_path, api=address) as centre:
            wait_until(lambda: "cannot listen on" in centre.process.tail(), "it says so", 120)
            assert centre.json("status")["controller"]["state"] == "up"
            assert centre.process.alive()


@pytest.mark.slow
def test_deliveries_go_on_while_the_api_is_killed_again_and_again(tmp_path: Path) -> None:
    """An agent, a folder and a sink; each round kills the web process and drops a file."""
    api = started(tmp_path)
    try:
        admin = api.first_token()
        drop = tmp_path / "drop"
        drop.mkdir()
        tree = {
            **TREE,
            "sites/atl1.yaml": f"site: atl1\nlabels: {{region: us}}\nvariables: {{root: {json.dumps(str(drop))}}}\n",
            "sinks/files.yaml": f"sink: files\nkind: file\ndirectory: {json.dumps(str(tmp_path / 'out'))}\n",
        }
        assert api.post("apply", admin, {"tree": tree, "message": ""}).status == 200
        agent = api.centre.enrol("atl1").start()
        killed = set()
        for i in range(3):
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(api.pid).kill()
                killed.add(api.pid)
            (drop / f"S{i}.csv").write_text(f"SHIPMENT_NO;ITEM;QTY\nS{i};A;1\n", encoding="utf-8")
            wait_until(lambda: api.centre.json("account")["total"]["delivered"] == i + 1, "it is delivered", 120)  # noqa: B023
        assert killed
        assert agent.alive()
        wait_until(api.up, "the API is back", 120)
        ours, theirs = api.user("ursula", "viewer", "region=us"), api.user("emil", "viewer", "region=eu")
        assert [a["agent"] for a in api.post("agents", ours).body] == ["atl1"]
        assert api.post("trace", ours, {"number": "S1"}).body["verdict"] == "delivered to files"
        assert api.post("agents", theirs).body == []
        assert api.post("trace", theirs, {"number": "S1"}).body["entries"] == []
        assert api.post("account", theirs).body["total"]["in"] == 0
        told = api.post("account", admin).body
        assert (told["balanced"], told["total"]["in"], told["total"]["delivered"]) == (True, 3, 3)
    finally:
        for process in (*api.centre.agents, api.centre.process):
            process.stop()
