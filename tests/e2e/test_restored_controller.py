"""The controller is lost and comes back from last night's backup: what it had since comes from the agents again."""

import json
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from crossdock_controller.commands import account, fleet
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.intake import IntakeReader
from support.gateway import wait_until
from support.processes import Centre

ROWS = 400


class Plant:
    """Drops files, and remembers what was in them: the independent ledger. The agent archives or deletes them."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.given: list[str] = []
        self.numbers: dict[str, int] = {}
        for site in ("atl1", "rtm1"):
            (directory / site).mkdir(parents=True)

    def drop(self, site: str, files: int) -> None:
        for _ in range(files):
            number = self.numbers[site] = self.numbers.get(site, 0) + 1
            skus = [f"{site}-{number:03d}-{i:04d}" for i in range(ROWS)]
            temporary = self.root / site / f"stock{number:03d}.tmp"
            temporary.write_text("LOC;SKU;QTY\n" + "".join(f"{site};{sku};7\n" for sku in skus), "utf-8")
            temporary.rename(temporary.with_suffix(".csv"))
            self.given += skus

    def left(self) -> list[str]:
        return [p.name for p in self.root.glob("*/*.csv")]


def write_tree(directory: Path, plant: Plant, sinks: Path, note: str) -> Path:
    tree = {
        "sites/atl1.yaml": "site: atl1\n",
        "sites/rtm1.yaml": "site: rtm1\n",
        "sources/stock.yaml": f"""source: stock
on: {{}}
kind: file_drop
directory: {plant.root.as_posix()}/${{site}}
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.1
afterwards: delete
format: {{kind: csv, delimiter: ";"}}
""",
        "mappings/stock.yaml": f"""mapping: stock  # {note}
document: StockLevel
fields:
  location: LOC
  sku: SKU
  on_hand: {{from: QTY, as: decimal}}
""",
        "routes/all.yaml": 'when: document == "StockLevel"\nto: [finance, ledger]\n',
        "sinks/ledger.yaml": f"sink: ledger\nkind: file\ndirectory: {(sinks / 'ledger').as_posix()}\n",
        "sinks/finance.yaml": f"""sink: finance
kind: sql
url: sqlite:///{(sinks / "finance.db").as_posix()}
create_tables: true
tables:
  StockLevel:
    table: stock
    key: [location, sku]
    columns: {{location: location, sku: sku, on_hand: on_hand, sequence: $sequence}}
""",
    }
    (sinks / "ledger").mkdir(parents=True, exist_ok=True)
    for name, text in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return directory


def written(sinks: Path) -> Counter[str]:
    """How often each key stands in the files of the file sink."""
    lines = [line for file in sorted((sinks / "ledger").glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    return Counter(json.loads(line)["body"]["sku"] for line in lines)


def stocked(sinks: Path) -> dict[str, int]:
    """{sku: sequence} in the SQL sink."""
    db = sqlite3.connect(sinks / "finance.db")
    try:
        return dict(db.execute("SELECT sku, sequence FROM stock").fetchall())
    except sqlite3.OperationalError:
        return {}
    finally:
        db.close()


def arrived(plant: Plant, sinks: Path) -> bool:
    return sorted(written(sinks)) == sorted(stocked(sinks)) == sorted(plant.given)


@pytest.mark.timeout(240)
def test_a_controller_restored_from_a_backup_gets_everything_back_and_no_sink_gets_anything_twice(
    tmp_path: Path,
) -> None:
    plant, sinks, backup = Plant(tmp_path / "plant"), tmp_path / "sinks", tmp_path / "backup"
    with Centre(tmp_path) as centre:
        centre.run("apply", str(write_tree(tmp_path / "config", plant, sinks, "as backed up")))
        agents = [centre.enrol("atl1").start()]
        plant.drop("atl1", 4)
        wait_until(lambda: len(stocked(sinks)) >= ROWS, "the first files have arrived")
        made = centre.json("backup", str(backup))  # in the middle of the transfer
        assert made["state"]["counts"]["agents"] == 1
        assert made["intake"]["counts"]["batches"] >= 1
        centre.run("apply", str(write_tree(tmp_path / "config", plant, sinks, "since then")))
        agents.append(centre.enrol("rtm1").start())  # of which the backup knows nothing
        plant.drop("atl1", 6)
        plant.drop("rtm1", 3)
        wait_until(lambda: arrived(plant, sinks) and not plant.left(), "all has arrived, and is deleted at its source")
        before = stocked(sinks)

        centre.process.kill()
        wait_until(lambda: _gone(centre.data), "the machine is gone, its workers too")
        restored = centre.json("restore", str(backup))
        assert [a["agent"] for a in restored["agents"]] == ["atl1"]
        centre.start()
        plant.drop("atl1", 1)
        wait_until(lambda: arrived_of(centre, "atl1") == 11 * ROWS, "atl1 has given back what was missing")
        wait_until(lambda: states(centre) == {"atl1": "connected", "rtm1": "unknown"}, "rtm1 is seen, and not let in")
        centre.run("agents", "--data", str(centre.data), "adopt", "rtm1")
        wait_until(lambda: arrived_of(centre, "rtm1") == 3 * ROWS, "rtm1 has given back everything")
        wait_until(lambda: arrived(plant, sinks) and not pending(centre), "all is there, and nothing is pending")
        said = centre.json("account")
        assert all(agent.alive() for agent in agents)  # neither was started again

    assert set(written(sinks).values()) == {1}
    assert len(plant.given) == 14 * ROWS
    assert said["lost"] == said["doubled"] == 0
    assert said["total"]["in"] == said["total"]["delivered"] == 14 * ROWS
    after = stocked(sinks)
    late = {sku for sku in after if sku not in before}
    assert min(after[sku] for sku in late) > max(before.values()), "what comes after the restore must be newer"
    assert not list(tmp_path.glob("agent-*/outbox.db.corrupt-*"))


def arrived_of(centre: Centre, site: str) -> int:
    """Records in the intake. Looked up here: a command a look would be most of what this test does."""
    reader = IntakeReader(centre.data / "intake.db")
    try:
        return sum(stream.records for stream in reader.streams() if stream.site == site)
    finally:
        reader.close()


def states(centre: Centre) -> dict[str, str]:
    found = fleet.agents(DataDirectory(centre.data), time.time_ns() // 1000)
    return {agent.agent: agent.state for agent in found}


def pending(centre: Centre) -> int:
    return account.account(DataDirectory(centre.data), time.time_ns() // 1000).total.pending


def _gone(directory: Path) -> bool:
    """Workers that outlive their controller for a moment take files away themselves."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return not directory.exists()
    except OSError:
        return False
    return not directory.exists()
