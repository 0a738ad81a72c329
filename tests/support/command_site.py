"""A controller and agents as real processes, with a source each to give commands about."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from support.gateway import wait_until
from support.processes import Centre, Process, command


class CommandSite:
    """Use in a `with` statement. *drop* is the folder of each site's one source, `wms`."""

    def __init__(self, directory: Path, *sites: str, env: Mapping[str, str] | None = None, source: str = "") -> None:
        self.directory = directory
        self.centre = Centre(directory, api="127.0.0.1:0")
        self.drop = directory / "drop"
        self.drop.mkdir()
        self.agents: dict[str, Process] = {}
        self._sites = sites or ("atl1",)
        self._env = env
        self._source = source

    def __enter__(self) -> CommandSite:
        self.centre.start()
        self.apply()
        for site in self._sites:
            self.agents[site] = self.centre.enrol(site, self._env).start()
        for site in self._sites:
            wait_until(lambda site=site: self.source(site), f"the source of {site} runs", 90)
        return self

    def __exit__(self, *_: object) -> None:
        self.centre.__exit__()

    def apply(self, source: str = "wms") -> None:
        """Configure every site with one source of this name."""
        tree = self.directory / "tree"
        texts = {f"sites/{site}.yaml": f"site: {site}\nlabels: {{region: us}}\n" for site in self._sites}
        texts["sources/source.yaml"] = (
            f'source: {source}\non: {{region: us}}\nkind: file_drop\ndirectory: "{self.drop.as_posix()}"\n'
            'pattern: "*.csv"\nsettle_seconds: 0\npoll_seconds: 0.5\nformat: {kind: csv}\n' + self._source
        )
        for name, text in texts.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text, "utf-8")
        self.centre.run("apply", str(tree))

    def state(self, site: str = "atl1") -> Path:
        return self.directory / f"agent-{site}"

    def view(self, site: str = "atl1") -> dict[str, Any]:
        return next(agent for agent in self.centre.json("agents")["agents"] if agent["agent"] == site)

    def source(self, site: str = "atl1") -> dict[str, Any]:
        """What the agent last said of its source; empty when it has not."""
        sources = self.view(site)["sources"]
        return dict(sources[0]) if sources else {}

    def received(self, site: str = "atl1", source: str = "wms") -> int:
        """Records of a source that the controller has."""
        found = self.centre.json("account")["sources"]
        return sum(line["in"] for line in found if (line["site"], line["source"]) == (site, source))

    def give(self, *words: str) -> list[dict[str, Any]]:
        """`crossdock command WORDS --json`, whatever its exit code."""
        done = self.typed(*words, "--json")
        assert done.stdout, done.stderr
        return list(json.loads(done.stdout)["commands"])

    def one(self, *words: str) -> dict[str, Any]:
        [view] = self.give(*words)
        return view

    def waiting(self, id_: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        """The command, once it is in one of *states*."""
        wait_until(lambda: self.show(id_)["state"] in states, f"command {id_} is {' or '.join(states)}", seconds)
        return self.show(id_)

    def policy(self, text: str | None, site: str = "atl1") -> None:
        path = self.state(site) / "policy.toml"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text, "utf-8")

    def record(self, site: str = "atl1") -> str:
        """The site's own commands.log."""
        path = self.state(site) / "logs" / "commands.log"
        return path.read_text("utf-8") if path.exists() else ""

    def audited(self, id_: str) -> list[tuple[str, str]]:
        """(actor, action) of what the audit log says about a command."""
        with closing(sqlite3.connect(self.centre.data / "state.db")) as db:
            return db.execute("SELECT actor, action FROM audit WHERE target = ? ORDER BY seq", (id_,)).fetchall()

    def show(self, id_: str) -> dict[str, Any]:
        return dict(self.centre.json("command", "show", id_))

    def typed(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CROSSDOCK_DATA": str(self.centre.data)}
        return subprocess.run(
            [command("crossdock"), "command", *words], capture_output=True, encoding="utf-8", env=env, timeout=200,
            check=False,
        )  # fmt: skip
