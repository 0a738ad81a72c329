"""Write-back while agents are killed: DOCUMENTS to two sites, each to a folder and a table there, KILLS at random.

    PYTHONPATH=tests .venv/bin/python tests/bench/bench_write_back.py --documents 10000 --kills 20 --out bench-results

Every write is counted at the destination itself: a trigger counts those of a row, a second file of a document would
have a second name. At the end: is each there once, has each its receipt, at the site and at the controller?
Then one of each kind is taken back. Exits 1 when anything is amiss.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.gateway import wait_until
from support.write_back_site import SITES, Sites

PATIENCE_SECONDS = 1800.0


def measure(directory: Path, documents: int, kills: int, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    each = documents // len(SITES)
    with Sites(directory, table=True) as sites:
        for site in SITES:
            sites.install_receipts(site)
        items = {site: {f"{site}-{i:06d}": f"item {i}" for i in range(each)} for site in SITES}
        started = time.monotonic()
        for site in SITES:
            for start in range(0, each, 500):
                some = list(items[site].items())[start : start + 500]
                sites.give(site, f"part{start:06d}", dict(some))
        killed = _kill(sites, each, kills, rng)
        total = documents * 2
        wait_until(lambda: sites.settled().get("applied", 0) == total, "every receipt is in", PATIENCE_SECONDS)
        seconds = time.monotonic() - started
        wrong = [fault for site in SITES for fault in _faults(sites, site, items[site])]
        undone = _take_back(sites)
    return {
        "documents": documents, "deliveries": total, "sites": len(SITES), "kills": killed, "seed": seed,
        "seconds": round(seconds, 1), "deliveries_per_second": round(total / seconds, 1),
        "receipts_at_the_controller": total, "wrong": wrong, "undone": undone, "cpus": os.cpu_count(),
    }  # fmt: skip


def _kill(sites: Sites, each: int, kills: int, rng: random.Random) -> int:
    """Spread over the run by progress, not by time: kill *i* comes when so much is there, and a moment."""
    for i in range(kills):
        site = SITES[i % len(SITES)]
        at = int(each * (i + 0.5) / (kills + 1))
        wait_until(lambda site=site, at=at: len(sites.files(site)) >= at, f"{at} are at {site}", PATIENCE_SECONDS)
        time.sleep(rng.uniform(0.0, 0.3))
        sites.agents[site].kill()
        sites.agents[site].start()
    return kills


def _faults(sites: Sites, site: str, items: dict[str, str]) -> list[str]:
    rows, skus = sites.rows(site), sites.skus(site)
    found = []
    if skus != sorted(items):
        found.append(f"{site}: {len(skus)} files for {len(items)} documents")
    if rows.keys() != items.keys():
        found.append(f"{site}: {len(rows)} rows for {len(items)} documents")
    twice = [sku for sku, (_, times) in rows.items() if times != 1]
    if twice:
        found.append(f"{site}: {len(twice)} rows were written more than once, such as {twice[0]}")
    if sites.receipts(site) != len(items):
        found.append(f"{site}: {sites.receipts(site)} receipts in its database")
    left = [path.name for path in sites.folder(site).iterdir() if path.name.startswith(".")]
    if left:
        found.append(f"{site}: {len(left)} temporary files are left")
    return found


def _take_back(sites: Sites) -> list[str]:
    said = []
    for sink in (f"{SITES[0]}-table", f"{SITES[0]}-drop"):
        key = f"{SITES[0]}-000007"
        done = sites.typed("undo", sink, "--document", "Product", "--key", key, "--because", "bench", "--wait", "60")
        said.append(f"{sink}: {(done.stdout + done.stderr).strip()}")
        if done.returncode:
            sys.exit(f"undo failed: {said[-1]}")
    return said


def report(found: dict[str, object]) -> str:
    return (
        "# Write-back under fire\n\n"
        "| documents | deliveries | kills of agents | seconds | deliveries/s | applied once |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        f"| {found['documents']} | {found['deliveries']} | {found['kills']} | {found['seconds']} |"
        f" {found['deliveries_per_second']} | {'no' if found['wrong'] else 'all'} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), asked.documents, asked.kills, asked.seed)
    print(json.dumps(found, indent=1))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "write-back.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        (asked.out / "write-back.md").write_text(report(found), "utf-8")
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
