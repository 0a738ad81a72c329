"""The whole installation of one run: controller, agents, proxies between them, sources and sinks, in one directory."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chaos.ledger import Findings, Ledger
from chaos.person import Person
from chaos.proxy import Proxy
from chaos.schedule import AGENTS, WORKERS
from chaos.shim import Shim
from chaos.sinks import FileSink, HttpSink, SqlSinks
from chaos.stray import Stray
from chaos.tree import STATES_ONLY, Tree
from chaos.workload import Business
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory
from support.gateway import csr_of
from support.processes import Centre, Process

RESTART_SECONDS = 1.0  # a service manager starts again what ended by itself


class Plant:
    """`with Plant(directory, seed) as plant:` everything runs, and the businesses give."""

    def __init__(self, directory: Path, seed: int, pause_seconds: float = 0.25, certificate_hours: float = 24) -> None:
        self.directory, self.seed = directory, seed
        self.ledger = Ledger(STATES_ONLY)
        self.notes: list[tuple[float, str]] = []  # what happened, in seconds since the run began
        self.repeated_letters = 0  # as the last verdict found
        self.ended: list[str] = []  # processes that ended by themselves
        self.shim = Shim(directory / "shim")
        self._clock: dict[str, float] = {}
        self._disk: dict[str, tuple[str, str]] = {}
        hours = ("--certificate-hours", str(certificate_hours))
        self.centre = Centre(directory, *hours, env=self.environment("controller"))
        self.agents: dict[str, Process] = {}
        self.proxies: dict[str, Proxy] = {}
        self.businesses: dict[str, Business] = {}
        self._pause = pause_seconds
        self._stack = ExitStack()
        self._frozen: set[int] = set()
        self._down: dict[str, float] = {}  # killed or ended, and when to start it again (monotonic)

    def environment(self, name: str) -> Mapping[str, str]:
        return self.shim.environment(name)

    def clock(self, name: str, seconds: float) -> None:
        """The wall clock of process *name* and its children is off by *seconds*."""
        self._clock[name] = seconds
        self._set(name)

    def disk(self, name: str, error: str, path: str) -> None:
        """Process *name* meets *error* at files whose path contains *path*; empty: the disk is well."""
        self._disk[name] = (error, path)
        self._set(name)

    def well(self) -> None:
        """No fault of clock or disk anywhere."""
        for name in {*self._clock, *self._disk}:
            self.shim.set(name)
        self._clock.clear()
        self._disk.clear()

    def effects(self) -> Counter[str]:
        """What the faults did, as seen from outside."""
        found: Counter[str] = Counter()
        found["calls that met a full or failing disk"] = sum(
            self.shim.hits(name) for name in ("controller", *(f"agent-{site}" for site in AGENTS))
        )
        found["outboxes set aside"] = sum(self.set_aside(site) for site in AGENTS)
        found["dead letters of records that were read again"] = self.repeated_letters
        found["processes that ended by themselves and were started again"] = len(self.ended)
        found["certificates renewed"] = sum(
            agent.log.read_text("utf-8").count("certificate renewed") for agent in self.agents.values()
        )
        found.update(self.person.did)
        found["requests at the HTTP sink beyond one a document"] = self.web.requests - self.web.effects
        for deed, times in self.stray.misdeeds.items():
            found[f"batches or calls of the misbehaving client {deed}"] = times
        return found

    def set_aside(self, site: str) -> int:
        """How many outboxes of the site's agent were found damaged."""
        return sum(1 for p in self.state_of(site).glob("outbox.db.corrupt-*") if p.name.endswith("Z"))

    def _set(self, name: str) -> None:
        error, path = self._disk.get(name, ("", ""))
        self.shim.set(name, self._clock.get(name, 0.0), error, path)

    def __enter__(self) -> Plant:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.shim)
            stack.enter_context(self.centre)
            stack.callback(self.well)
            stack.callback(self.thaw_all)
            self.sql = SqlSinks(self.directory)
            self.web = stack.enter_context(HttpSink(self.seed))
            self.files = FileSink(self.directory / "files")
            self.more = FileSink(self.directory / "files-more")
            roots = {site: self.directory / site for site in AGENTS}
            self.tree = Tree(
                self.directory / "config",
                roots,
                {
                    "rows": self.sql.rows.as_posix(), "latest": self.sql.latest.as_posix(),
                    "web": self.web.url, "files": self.files.directory.as_posix(),
                },
            )  # fmt: skip
            self.centre.run("apply", str(self.tree.write()))
            port = int(json.loads((self.centre.data / "addresses.json").read_text("utf-8"))["link"].rpartition(":")[2])
            for site in AGENTS:
                self.proxies[site] = stack.enter_context(Proxy(port))
                self.businesses[site] = stack.enter_context(
                    Business(site, roots[site], self.ledger, self.seed, self._pause)
                )
                self._enrol(site)
            self.person = stack.enter_context(Person(self.tree, self.centre.data, self.note))
            self.stray = stack.enter_context(Stray(DataDirectory(self.centre.data), self.ledger, self.seed))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def moving(self) -> bool:
        """Records of every site have arrived."""
        arrived = {got.record.key.split("-")[0] for got in self.sql.got(Findings())}
        return arrived >= set(AGENTS)

    def note(self, text: str) -> None:
        """Kept, and written to notes.log at once: what happened is of most use when the run hangs."""
        self.notes.append((round(time.monotonic() - self.ledger.began, 2), text))
        with (self.directory / "notes.log").open("a", encoding="utf-8") as file:
            file.write(f"{self.notes[-1][0]:8.2f} {text}\n")

    # --- processes

    def kill(self, name: str, down_seconds: float) -> bool:
        """SIGKILL; False when it is down already. `keep` starts it again (workers are started by the controller)."""
        if name in WORKERS:
            return self.centre.process.kill_child(name)
        if name in self._down:
            return False
        self._process(name).kill()
        self._down[name] = time.monotonic() + down_seconds
        return True

    def lapse(self, site: str) -> bool:
        """The agent's certificate has expired while it was down: it is shut out until somebody enrols it again."""
        if not self.kill(f"agent-{site}", 0.0):
            return False
        path = self.state_of(site) / "identity" / "identity.json"
        identity = json.loads(path.read_text("utf-8"))
        key = load_pem_private_key((path.parent / identity["key_file"]).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        then = dt.datetime.now(dt.UTC) - dt.timedelta(hours=30)
        authority = Authority.open(DataDirectory(self.centre.data).authority)
        issued = authority.issue_agent(csr_of(key), site, dt.timedelta(hours=24), then)
        identity["certificate"] = base64.b64encode(issued.certificate).decode()
        identity["issued_us"], identity["expires_us"] = int(then.timestamp() * 1e6), issued.expires_us
        path.write_text(json.dumps(identity), "utf-8")
        return True

    def enrol_again(self, site: str) -> None:
        """The operator's way back in after `lapse`; takes a while, and the agent is down meanwhile."""
        name = f"agent-{site}"

        def stop() -> None:
            self._down[name] = float("inf")
            self.agents[site].kill()

        def start() -> None:
            self.through_proxy(site)
            self._down[name] = 0.0

        self.person.enrol(site, self.state_of(site), stop, start)

    def freeze(self, name: str) -> int | None:
        """SIGSTOP; the process stopped, for `thaw`."""
        pid = self._pid(name)
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._frozen.add(pid)
            return pid
        return None

    def thaw(self, pid: int) -> None:
        if pid in self._frozen:
            self._frozen.discard(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def thaw_all(self) -> None:
        for pid in list(self._frozen):
            self.thaw(pid)

    def keep(self) -> None:
        """What a service manager does: start again what is down and due, and what ended by itself."""
        now = time.monotonic()
        for name in self._services():
            if name not in self._down and not self._process(name).alive():
                text = f"{name} ended by itself: {self._process(name).tail(3)}"
                self.note(text)
                self.ended.append(text)
                self._down[name] = now + RESTART_SECONDS
            if self._down.get(name, now + 1) <= now:
                del self._down[name]
                self._start(name)

    def keep_all(self) -> None:
        """Everything up, at once; but for what a person has stopped."""
        for name, due in list(self._down.items()):
            self._down[name] = due if due == float("inf") else 0.0
        self.keep()

    def _start(self, name: str) -> None:
        if name == "controller":
            self.centre.launch()
        else:
            self._process(name).start()

    def _services(self) -> Iterator[str]:
        yield "controller"
        for site in self.agents:
            yield f"agent-{site}"

    def _process(self, name: str) -> Process:
        return self.centre.process if name == "controller" else self.agents[name.removeprefix("agent-")]

    def _pid(self, name: str) -> int | None:
        if name not in WORKERS:
            return self._process(name).pid if self._process(name).alive() else None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.centre.process.pid).children(recursive=True):
                if name in child.cmdline():
                    return int(child.pid)
        return None

    def _enrol(self, site: str) -> None:
        self.agents[site] = self.centre.enrol(site, self.environment(f"agent-{site}"))
        self.through_proxy(site)
        self.agents[site].start()

    def state_of(self, site: str) -> Path:
        return self.directory / f"agent-{site}"

    def through_proxy(self, site: str) -> None:
        """The agent knows the controller by the address of its proxy: no name service is asked in between."""
        path = self.state_of(site) / "identity" / "identity.json"
        identity = json.loads(path.read_text("utf-8"))
        identity["link_address"] = f"127.0.0.1:{self.proxies[site].port}"
        path.write_text(json.dumps(identity), "utf-8")
