"""A fleet on one controller: acknowledgements, memory and CPU while it works, and how it comes back after a crash.

    .venv/bin/python tests/bench/bench_fleet.py [--agents 1000] [--seconds 300] [--down 0,60] [--out bench-results]

The controller is the shipped one (gateway, normalizer, dispatcher). Agents are simulated (tests/support/fleet_agents):
real TLS under an identity each, two connections each as the real agent has, real streams, heartbeats and batches. They
run in this process and share the machine's cores with the controller; their CPU is told apart. Every record is mapped
to a StockLevel and upserted in a SQLite sink, which is counted at the end. Then the controller is killed (SIGKILL),
stays down, is started again, and every agent holds a fresh batch ready: recovered is when the last of them has both
streams and the acknowledgement of a batch sent after the kill. Writes fleet.json and fleet.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from measure import Meter, machine

from support import fleet
from support.fleet_agents import SimulatedAgent, Tally, running
from support.processes import Centre

RECOVERY_LIMIT_SECONDS = 30.0
PATIENCE_SECONDS = 180.0


async def measure(base: Path, options: argparse.Namespace) -> dict[str, Any]:
    database = base / "warehouse.db"
    tally = Tally()
    with Centre(base) as centre:
        result: dict[str, Any] = {"rss_mb": {"alone": _rss(centre)}}
        began = time.monotonic()
        centre.run("apply", str(fleet.write_tree(base / "tree", options.agents, database)))
        result["apply_seconds"] = round(time.monotonic() - began, 1)
        began = time.monotonic()
        agents = await fleet.enrol(centre, options.agents, tally)
        result["enrolled_per_second"] = round(options.agents / (time.monotonic() - began))
        await asyncio.sleep(2.0)  # the revision is taken up: it belongs to no connection
        result["rss_mb"]["enrolled"] = _rss(centre)
        async with running(agents, options.every):
            began = time.monotonic()
            await _until(lambda: all(a.welcomed_at for a in agents), "every agent is welcomed", tally)
            result["all_welcomed_seconds"] = round(time.monotonic() - began, 1)
            await asyncio.sleep(options.every)
            result["rss_mb"]["connected"] = _rss(centre)
            result["steady"] = await _steady(centre, agents, tally, options)
            result["rss_mb"]["steady"] = _rss(centre)
            result["restarts"] = [await _restart(centre, agents, tally, down) for down in options.down]
            result["end"] = await _settle(centre, agents, tally, database)
        result["kb_per_agent"] = {
            role: round((rss - result["rss_mb"]["enrolled"].get(role, rss)) * 1024 / options.agents)
            for role, rss in result["rss_mb"]["steady"].items()
        }
    return result


async def _steady(centre: Centre, agents: list[SimulatedAgent], tally: Tally, options: argparse.Namespace) -> Any:
    meter = Meter({"gateway": centre.process.pid, "simulators": os.getpid()})
    beats, began = tally.heartbeats, time.monotonic()
    meter.start()
    await asyncio.sleep(options.seconds)
    seconds = time.monotonic() - began
    usages = meter.stop()
    ended = time.monotonic()
    beats = tally.heartbeats - beats
    await _until(
        lambda: not any(a.outbox and a.outbox[0].made < ended for a in agents), "what was made is acked", tally
    )
    acked = [p for p in tally.acked if began <= p.made < ended]
    waits = sorted((p.acked - p.made) * 1000 for p in acked)
    own = {u.name: u for u in usages if u.name in {"gateway", "simulators"} or u.name.startswith("gateway: ")}
    return {
        "seconds": round(seconds, 1),
        "batches": len(acked),
        "batches_per_second": round(len(acked) / seconds, 1),
        "heartbeats_per_second": round(beats / seconds, 1),
        "heartbeat_seconds": max(a.heartbeat_seconds for a in agents),
        "ack_ms": {
            name: _share(waits, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
        },
        "cpu_percent_of_one_core": {
            _role(name): round(u.cpu_seconds / seconds * 100, 1) for name, u in own.items() if "simulators:" not in name
        },
        "interrupted_streams": tally.failures,
    }  # fmt: skip


async def _restart(centre: Centre, agents: list[SimulatedAgent], tally: Tally, down: float) -> dict[str, Any]:
    failures, resent = tally.failures, tally.resent
    centre.process.kill()
    killed = time.monotonic()
    for agent in agents:
        agent.make_batch()
    tally.opened.clear()
    await asyncio.sleep(down)
    meter = Meter({"simulators": os.getpid()})
    meter.start()
    started = time.monotonic()
    starting = asyncio.create_task(asyncio.to_thread(centre.start))
    await _until(lambda: all(a.recovered(killed) for a in agents), "every agent is back", tally)
    recovered = time.monotonic()
    await starting
    seconds = Counter(int(at - started) for at in tally.opened)
    gateway = psutil.Process(centre.process.pid).cpu_times()
    return {
        "down_seconds": down,
        "recovered_after_start_seconds": round(recovered - started, 1),
        "recovered_after_kill_seconds": round(recovered - killed, 1),
        "first_stream_seconds": round(min(tally.opened) - started, 1),
        "streams": len(tally.opened),
        "handshakes_per_second": round(len(tally.opened) / (max(tally.opened) - min(tally.opened) + 0.001)),
        "handshakes_in_busiest_second": max(seconds.values()),
        "failed_attempts": tally.failures - failures,
        "batches_sent_again": tally.resent - resent,
        "gateway_cpu_seconds": round(gateway.user + gateway.system, 1),
        "simulators_cpu_seconds": next(u.cpu_seconds for u in meter.stop() if u.name == "simulators"),
        "gateway_rss_mb": _rss(centre)["gateway"],
    }


async def _settle(centre: Centre, agents: list[SimulatedAgent], tally: Tally, database: Path) -> dict[str, Any]:
    """No new batches; until every one is acknowledged and every record in the sink, or patience ends."""
    for agent in agents:
        agent.resting = True
    await asyncio.sleep(0)
    with contextlib.suppress(TimeoutError):
        await _until(lambda: not any(a.outbox for a in agents), "every batch is acknowledged", tally)
    records = tally.made * 10
    began = time.monotonic()
    while fleet.arrived(database)[0] < records and time.monotonic() - began < PATIENCE_SECONDS:
        await asyncio.sleep(0.5)
    rows, keys = fleet.arrived(database)
    batches, kept = fleet.intake(centre)
    return {
        "batches_made": tally.made,
        "missed_acknowledgements": sum(len(a.outbox) for a in agents),
        "refused": tally.refused[:5],
        "intake_batches": batches,
        "intake_records": kept,
        "records_made": records,
        "sink_rows": rows,
        "sink_keys": keys,
        "sink_behind_seconds": round(time.monotonic() - began, 1),
        "failures": tally.reasons,
    }


async def _until(condition: Any, what: str, tally: Tally) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s in vain until {what}; streams failed: {tally.reasons}")
        await asyncio.sleep(0.05)


def _rss(centre: Centre) -> dict[str, float]:
    """Of each of the controller's processes, MB."""
    root = psutil.Process(centre.process.pid)
    found = {"gateway": root.memory_info().rss}
    for child in root.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if "--role" in words:
                found[words[words.index("--role") + 1]] = child.memory_info().rss
    return {role: round(rss / 2**20, 1) for role, rss in found.items()}


def _role(name: str) -> str:
    return name.removeprefix("gateway: ")


def _share(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else float("nan")


def markdown(agents: int, result: dict[str, Any]) -> str:
    steady, end, rss = result["steady"], result["end"], result["rss_mb"]
    ack, cpu = steady["ack_ms"], steady["cpu_percent_of_one_core"]
    rows = [
        ("enrolled through the Enroll RPC", f"{result['enrolled_per_second']} agents/s"),
        ("all connected and welcomed", f"{result['all_welcomed_seconds']} s after the first"),
        ("batches made, acknowledged, missed",
         f"{end['batches_made']:,}, {end['batches_made'] - end['missed_acknowledgements']:,},"
         f" **{end['missed_acknowledgements']}**"),
        ("records made, in the intake, rows and keys in the sink",
         f"{end['records_made']:,}, {end['intake_records']:,}, {end['sink_rows']:,}, {end['sink_keys']:,}"),
        (f"acknowledgement over {steady['seconds']:.0f} s at {steady['batches_per_second']} batches/s",
         f"p50 {ack['p50']} ms, p99 {ack['p99']} ms, p99.9 {ack['p99.9']} ms, max {ack['max']} ms"),
        (f"heartbeats (every {steady['heartbeat_seconds']:.0f} s)", f"{steady['heartbeats_per_second']}/s"),
        ("CPU, % of one core", ", ".join(f"{role} {value}" for role, value in cpu.items())),
        ("gateway's memory: alone, all enrolled, all connected, at the end",
         f"{rss['alone']['gateway']}, {rss['enrolled']['gateway']}, {rss['connected']['gateway']},"
         f" {rss['steady']['gateway']} MB"),
        ("gateway's memory for each connected agent", f"{result['kb_per_agent']['gateway']} KB"),
    ]  # fmt: skip
    lines = [f"# {agents:,} agents on one controller", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += [
        "", "| killed, down for | recovered after the start | streams | handshakes/s, busiest second | failed attempts"
        " | gateway CPU s |", "| --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for r in result["restarts"]:
        lines.append(
            f"| {r['down_seconds']:g} s | **{r['recovered_after_start_seconds']} s** | {r['streams']:,} |"
            f" {r['handshakes_per_second']}, {r['handshakes_in_busiest_second']} | {r['failed_attempts']:,} |"
            f" {r['gateway_cpu_seconds']} |"
        )
    return "\n".join(lines) + "\n"


def _sound(result: dict[str, Any]) -> bool:
    end = result["end"]
    whole = end["missed_acknowledgements"] == 0 and not end["refused"] and end["intake_batches"] == end["batches_made"]
    once = end["sink_rows"] == end["sink_keys"] == end["records_made"]
    back = all(r["recovered_after_start_seconds"] < RECOVERY_LIMIT_SECONDS for r in result["restarts"])
    return bool(whole and once and back)


def _allow_many_files() -> None:
    with contextlib.suppress(ImportError):  # not on Windows, where sockets are no file descriptors
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0, help="of steady work that is measured")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between an agent's batches")
    parser.add_argument("--down", default="0,60", help="for how long the controller stays down, one kill each")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    options.down = [float(d) for d in options.down.split(",") if d]
    _allow_many_files()
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-", ignore_cleanup_errors=True) as directory:
        base = Path(directory)
        host = machine(base)
        result = asyncio.run(measure(base, options))
    options.out.mkdir(parents=True, exist_ok=True)
    whole = {"machine": host, "agents": options.agents, "every_seconds": options.every, **result}
    (options.out / "fleet.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    text = markdown(options.agents, result)
    (options.out / "fleet.md").write_text(text, "utf-8")
    print(text)
    if not _sound(result):
        sys.exit(f"the fleet lost or doubled something, or came back too late: {json.dumps(result, indent=1)}")


if __name__ == "__main__":
    main()
