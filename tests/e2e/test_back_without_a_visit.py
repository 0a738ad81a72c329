"""An agent was away while the certificate authority was replaced, three revisions were made and its own certificate
ended. It comes back by itself, and nothing is lost.

Real processes throughout: the controller, the agent and every command as an operator types it.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.outbox import inspect
from crossdock_agent.settings import Settings
from support.gateway import wait_until
from support.processes import Centre

LIFE_HOURS = 0.003  # 10.8 seconds
ROWS = 50


class Plant:
    """Drops files and remembers their rows: the independent ledger. Agents delete what is safe at the centre."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.given: set[str] = set()
        for folder in ("atl1/stock", "atl1/late", "rtm1/stock", "rtm1/late"):
            (directory / folder).mkdir(parents=True)

    def drop(self, folder: str, number: int) -> None:
        skus = [f"{folder.replace('/', '-')}-{number:03d}-{i:03d}" for i in range(ROWS)]
        partial = self.directory / folder / f"{number:03d}.tmp"
        partial.write_text("LOC;SKU;QTY\n" + "".join(f"atl1;{sku};7\n" for sku in skus), "utf-8")
        partial.rename(partial.with_suffix(".csv"))
        self.given.update(skus)

    def left(self) -> list[Path]:
        return list(self.directory.glob("*/*/*.csv"))


def write_tree(tree: Path, plant: Plant, sink: Path, *, late: bool, poll: float) -> Path:
    """Two sites with source stock, and, with *late*, a second source of the same kind."""
    files = {
        "sites/atl1.yaml": "site: atl1\n",
        "sites/rtm1.yaml": "site: rtm1\n",
        "routes/all.yaml": 'when: document == "StockLevel"\nto: [finance]\n',
        "sinks/finance.yaml": f"""sink: finance
kind: sql
url: sqlite:///{sink.as_posix()}
create_tables: true
tables:
  StockLevel:
    table: stock
    key: [location, sku]
    columns: {{location: location, sku: sku, on_hand: on_hand, sequence: $sequence}}
""",
    }
    for name in ("stock", "late") if late else ("stock",):
        files[f"sources/{name}.yaml"] = f"""source: {name}
on: {{}}
kind: file_drop
directory: {plant.directory.as_posix()}/${{site}}/{name}
pattern: "*.csv"
settle_seconds: 0
poll_seconds: {poll}
afterwards: delete
format: {{kind: csv, delimiter: ";"}}
"""
        files[f"mappings/{name}.yaml"] = f"""mapping: {name}
document: StockLevel
fields:
  location: LOC
  sku: SKU
  on_hand: {{from: QTY, as: decimal}}
"""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tree


def stocked(sink: Path) -> list[str]:
    if not sink.exists():
        return []
    with closing(sqlite3.connect(sink)) as db:
        try:
            return [sku for (sku,) in db.execute("SELECT sku FROM stock ORDER BY sku")]
        except sqlite3.OperationalError:  # the table is not there yet
            return []


def agent(centre: Centre, name: str = "atl1") -> Any:
    (found,) = [a for a in centre.json("agents")["agents"] if a["agent"] == name]
    return found


def authorities(centre: Centre) -> list[tuple[str, int, int]]:
    """(state, trusted by, certificates held) of each, the oldest first."""
    return [(a["state"], a["trusted_by"], a["held_by"]) for a in centre.json("ca")["authorities"]]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_agent_that_missed_a_rotation_three_revisions_and_its_certificates_end_comes_back_with_everything(
    tmp_path: Path,
) -> None:
    plant, sink, tree = Plant(tmp_path / "plant"), tmp_path / "finance.db", tmp_path / "tree"
    with Centre(tmp_path, "--certificate-hours", str(LIFE_HOURS)) as centre:
        centre.run("apply", str(write_tree(tree, plant, sink, late=False, poll=0.1)))
        process, steady = centre.enrol("atl1").start(), centre.enrol("rtm1").start()
        plant.drop("atl1/stock", 1)
        wait_until(lambda: len(stocked(sink)) == ROWS, "the agent runs revision 1", 120)
        old = centre.json("ca")["authorities"][0]["fingerprint"]

        centre.process.stop()
        plant.drop("atl1/stock", 2)
        outbox = Settings(state=str(tmp_path / "agent-atl1")).outbox_path
        wait_until(lambda: inspect(outbox)[0] > 0, "what it cannot send is in its outbox")
        process.kill()  # the machine is switched off
        centre.start()
        plant.drop("atl1/stock", 3)
        plant.drop("atl1/late", 1)  # of a source that only revision 3 brings
        for step in ("add", "issue"):
            assert centre.json("ca", step)["taken_up"]
        wait_until(lambda: authorities(centre)[1][1:] == (1, 1), "the one that is connected follows at once", 120)
        assert centre.json("ca", "switch")["taken_up"]
        for number in (2, 3, 4):
            centre.run("apply", str(write_tree(tree, plant, sink, late=number > 2, poll=number / 10)))
        wait_until(lambda: agent(centre)["certificate_expires_us"] < time.time() * 1e6, "its certificate has ended")
        with pytest.raises(AssertionError, match="atl1 holds a certificate of it that ended"):
            centre.run("ca", "retire", old[:12])
        assert len(stocked(sink)) == ROWS, "nothing came while it was away"

        process.start()  # switched on again; nobody types anything at the site
        wait_until(lambda: agent(centre)["revision"] == 4, "it runs the newest revision", 120)
        wait_until(lambda: set(stocked(sink)) == plant.given, "everything has arrived", 120)
        wait_until(lambda: not plant.left(), "and is deleted at its source", 120)
        wait_until(lambda: authorities(centre)[1][1:] == (2, 2), "it trusts the new authority and has its certificate")
        centre.run("ca", "retire", old[:12])
        assert [a[0] for a in authorities(centre)] == ["retired", "issuing, serving"]

        plant.drop("rtm1/late", 1)
        plant.drop("atl1/late", 2)  # under the new authority alone, also after the next renewal
        wait_until(lambda: set(stocked(sink)) == plant.given, "data flows on", 120)
        ends = agent(centre)["certificate_expires_us"]
        wait_until(lambda: agent(centre)["certificate_expires_us"] > ends, "it renews by itself", 120)
        wait_until(lambda: agent(centre)["state"] == "connected", "it is connected", 60)
        assert len(stocked(sink)) == len(plant.given) == 6 * ROWS, "nothing lost, nothing doubled"
        assert process.alive()
        assert steady.alive()
        with closing(sqlite3.connect(centre.data / "state.db")) as db:
            back = db.execute("SELECT actor FROM audit WHERE action = 'agents.reenrol'").fetchall()
        assert ("agent:atl1",) in back, "it came back by its old key"
