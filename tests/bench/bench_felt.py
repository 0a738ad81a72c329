"""A month-end burst as the host feels it: without the agent, with it, with it inside its limits. In one run, in turns.

    make bench-felt            or    .venv/bin/python tests/bench/bench_felt.py [--rows 500000 --files 2000 --mb 1000]

The host is a PostgreSQL with a steady load of short transactions (pgbench, a quarter of what it can do) and a folder.
In each phase the same burst comes: rows in one transaction, files at once. The agent stands still (SIGSTOP) until the
host has got over making it; from then on the host's transactions are measured, and what the agent's process uses. Host
and agent have one core to themselves; the centre and pgbench have the other, and the centre's files lie in memory, so
that nothing of theirs is taken for the agent's. A critical record is written every second meanwhile. Needs Linux, `ss`
(iproute2) and PostgreSQL with its ODBC driver. Writes felt.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from felt_agent import Sampler, Site, Used
from felt_host import Alerts, Burst, Felt, Load, pin
from measure import machine

from crossdock import yamlfile
from crossdock_controller.config.models import Limits
from support import postgres
from support.gateway import wait_until
from support.processes import Centre

HOST_CORE, OTHER_CORE = 0, 1
LIMITS = "{cpu_percent: 25, bandwidth: {default: 1 MB/s}, disk: 4 MB/s, memory: 120 MB}"
REST_SECONDS = 5.0
SETTLE_SECONDS = 10.0
PATIENCE_SECONDS = 3600.0
TOLERANCE = 0.05  # of a budget over ten seconds: a fifth of a second is saved up, and a piece of work is finished
PHASES = ("no agent", "agent", "agent, limited")


@dataclass(frozen=True, slots=True)
class Measured:
    """A phase: *moved_seconds* is None when it was not waited for."""

    phase: str
    begin: float  # seconds since the epoch
    end: float
    host: Felt
    used: Used | None
    moved_seconds: float | None
    records: int


class Bench:
    def __init__(self, site: Site, load: Load, burst: Burst, state: Path, options: argparse.Namespace) -> None:
        self._site, self._load, self._burst = site, load, burst
        self._state = state
        self._options = options
        self._spans: list[tuple[str, float, float, Used | None, float | None, int]] = []

    def round(self, number: int) -> None:
        """All phases once; the limited one is waited for to its end in the last round."""
        self._alone()
        agent = self._site.start(self._state)
        pin(agent.pid, {HOST_CORE})
        last = number == self._options.rounds - 1
        order = [("agent", ""), ("agent, limited", self._options.limits)]
        for phase, limits in order if number % 2 == 0 else order[::-1]:
            self._with_agent(phase, limits, to_the_end=last or not limits)
        agent.stop()

    def results(self) -> list[Measured]:
        time.sleep(REST_SECONDS)  # not a synchronisation: pgbench writes its log in pieces
        return [
            Measured(phase, begin, end, self._load.between(begin, end), used, moved, records)
            for phase, begin, end, used, moved, records in self._spans
        ]

    def _alone(self) -> None:
        self._burst.prepare()
        self._burst.land(is_read=False)
        time.sleep(SETTLE_SECONDS)  # not a synchronisation: the host gets over making the burst
        begin = time.time()
        time.sleep(self._options.seconds)
        self._spans.append(("no agent", begin, time.time(), None, None, 0))

    def _with_agent(self, phase: str, limits: str, *, to_the_end: bool) -> None:
        self._burst.prepare()
        self._site.apply(limits)
        had = self._site.records()
        assert self._site.agent is not None
        time.sleep(REST_SECONDS)  # not a synchronisation: what starting and preparing left behind settles
        self._site.agent.pause()
        self._burst.land(is_read=True)
        time.sleep(SETTLE_SECONDS)
        self._site.agent.resume()
        begin = time.time()
        moved: float | None = None
        with Sampler(self._site.agent.pid, self._site.port) as sampler:
            while moved is None and (to_the_end or time.time() - begin < self._options.window):
                assert time.time() - begin < PATIENCE_SECONDS, "the burst does not get through"
                time.sleep(0.2)
                if self._site.records() - had >= self._burst.records:
                    moved = time.time() - begin
        self._spans.append((phase, begin, time.time(), sampler.used(), moved, self._site.records() - had))
        if moved is None:
            self._site.apply("")
            wait_until(lambda: self._site.records() - had >= self._burst.records, "the rest is moved", PATIENCE_SECONDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossdock-bench-", dir=options.disk)))
        centre_at = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossdock-bench-", dir=_memory())))
        about = machine(disk)
        server = stack.enter_context(postgres.running(fsync="on", shared_buffers="128MB", max_wal_size="4GB"))
        pin(_postmaster(server), {HOST_CORE})
        drop = disk / "drop"
        drop.mkdir()
        burst = Burst(server, drop, options.rows, options.files, options.mb)
        alerts = Alerts(server)
        centre = stack.enter_context(Centre(centre_at))
        pin(centre.process.pid, {OTHER_CORE})
        site = Site(centre, {"odbc": server.odbc(), "drop": drop.as_posix()})
        site.apply("")
        load = Load(server, disk, OTHER_CORE)
        most = load.calibrate(options.load)
        load.start()
        stack.callback(load.stop)
        stack.callback(alerts.stop)
        alerts.start()
        bench = Bench(site, load, burst, disk / "agent", options)
        for number in range(options.rounds):
            bench.round(number)
        measured = bench.results()
        late = _latencies(alerts.written_us, site.alerts())
        return {
            "machine": about, "host_can_do_tps": round(most, 1), "host_rate_tps": load.rate,
            "rows": options.rows, "files": options.files, "mb": options.mb, "records": burst.records,
            "limits": options.limits, "phases": [asdict(one) for one in measured], "alerts": late,
        }  # fmt: skip


def _latencies(written_us: list[int], received_us: list[int]) -> list[tuple[float, float]]:
    """(when, seconds) of each critical record that arrived while the agent ran."""
    return [(w / 1e6, (r - w) / 1e6) for w, r in zip(written_us, received_us, strict=False)]


def _postmaster(server: postgres.Postgres) -> int:
    return int((server.directory / "data" / "postmaster.pid").read_text("ascii").split("\n", 1)[0])


def _memory() -> str | None:
    """Where files lie in memory, if there is such a place with room."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() and shutil.disk_usage(place).free > 2 * 2**30 else None


def table(found: dict[str, Any]) -> str:
    """Medians over the rounds, worst of the worst."""
    lines = [
        "| phase | host TPS | p50 ms | p99 ms | agent CPU | worst 10 s | RSS max | written | worst 10 s | sent |"
        " worst 10 s | burst moved in |",
        "| --- " * 12 + "|",
    ]
    for phase in PHASES:
        rounds = [one for one in found["phases"] if one["phase"] == phase]
        host = [f"{statistics.median(one['host'][key] for one in rounds):.1f}" for key in ("p50_ms", "p99_ms")]
        per_second = statistics.median(one["host"]["transactions"] / one["host"]["seconds"] for one in rounds)
        used = [one["used"] for one in rounds if one["used"]]
        cells = [phase, f"{per_second:.1f}", *host]
        if used:
            cells += [f"{statistics.median(u['cpu_percent'] for u in used):.1f} %"]
            cells += [f"{max(u['cpu_percent_worst'] for u in used):.1f} %", f"{max(u['rss_mb'] for u in used):.0f} MB"]
            for key in ("written_per_second", "sent_per_second"):
                cells += [f"{statistics.median(u[key] for u in used) / 1e6:.2f} MB/s"]
                cells += [f"{max(u[key + '_worst'] for u in used) / 1e6:.2f} MB/s"]
            moved = [one["moved_seconds"] for one in rounds if one["moved_seconds"] is not None]
            cells += [f"{statistics.median(moved):.0f} s" if moved else "-"]
        lines.append("| " + " | ".join(cells + ["-"] * (12 - len(cells))) + " |")
    return "\n".join(lines)


def verdicts(found: dict[str, Any]) -> list[str]:
    """What was used in the limited phases against what the site allows: mean of each, and the worst ten seconds."""
    allowed = Limits.model_validate(yamlfile.parse("limits", found["limits"]).value)
    used = [one["used"] for one in found["phases"] if one["phase"] == PHASES[-1]]
    line = allowed.bandwidth.default if allowed.bandwidth is not None else None
    budgets = (
        ("cpu, % of a core", allowed.cpu_percent, "cpu_percent", 1.0),
        ("bandwidth, KB/s", line and line / 1e3, "sent_per_second", 1e3),
        ("disk, KB/s", allowed.disk and allowed.disk / 1e3, "written_per_second", 1e3),
    )
    said = []
    for name, limit, key, unit in budgets:
        if limit:
            mean, worst = (max(one[k] for one in used) / unit for k in (key, f"{key}_worst"))
            verdict = "inside" if worst <= limit * (1 + TOLERANCE) else "OVER"
            said.append(f"{name}: {limit:g} allowed; {mean:.1f} used, {worst:.1f} in the worst 10 s: {verdict}")
    if allowed.memory:
        resident = max(one["rss_mb"] for one in used)
        verdict = "inside" if resident <= allowed.memory / 1e6 else "OVER"
        said.append(f"memory, MB: {allowed.memory / 1e6:g} allowed; {resident:.1f} at most: {verdict}")
    return said


def alerts_of(found: dict[str, Any]) -> str:
    """How late the critical records came, by phase."""
    said = []
    for phase in PHASES[1:]:
        spans = [one for one in found["phases"] if one["phase"] == phase]
        late = sorted(
            seconds for one in spans for when, seconds in found["alerts"] if one["begin"] <= when < one["end"] - 3
        )
        if late:
            worst = late[min(len(late) - 1, int(len(late) * 0.99))]
            said.append(f"{phase}: {len(late)} records, p50 {late[len(late) // 2]:.2f} s, p99 {worst:.2f} s")
    return "critical record, a second: " + "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--mb", type=int, default=1_000, help="of all files together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the phase without agent")
    parser.add_argument("--window", type=float, default=60.0, help="of the limited phase, but in the last round")
    parser.add_argument("--load", type=float, default=0.25, help="share of what the host can do")
    parser.add_argument("--limits", default=LIMITS, help="the site's limits, YAML")
    parser.add_argument("--disk", type=Path, default=None, help="where the host's folder and the outbox lie")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    found = run(options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "felt.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(f"limits {found['limits']}; burst of {found['rows']} rows and {found['files']} files of {found['mb']} MB")
    print(f"host: {found['host_rate_tps']} transactions a second due, of {found['host_can_do_tps']} it can do\n")
    print(table(found))
    print("\n" + "\n".join(verdicts(found)))
    print(alerts_of(found))


if __name__ == "__main__":
    main()
