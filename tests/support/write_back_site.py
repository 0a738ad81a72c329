"""Two sites whose own documents come back to them: a source each, and writers into a folder and a table."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from support.gateway import wait_until
from support.processes import Centre, Process, command

SITES = ("atl1", "muc1")
SOURCE = """source: {site}-items
on: {{site: {site}}}
kind: file_drop
directory: {directory}
pattern: "*.jsonl"
settle_seconds: 0
poll_seconds: 0.2
format: {{kind: jsonl}}
"""
MAPPING = "mapping: {site}-items\ndocument: Product\nfields: {{sku: sku, description: name}}\n"
DROP = """writer: drop
on: {}
kind: file_drop
directory: ${folder}
name: "{key}-{sequence}.json"
marker: "{name}.done"
"""
TABLE = """writer: table
on: {}
kind: sql
connection: {sqlite: "${database}"}
table: items
key: [SKU]
columns: {SKU: sku, NAME: description}
"""
SINK = "sink: {site}-{writer}\nkind: agent\nsite: {site}\nwriter: {writer}\n"


class Sites:
    """A controller, and an agent at each of SITES."""

    def __init__(self, directory: Path, *, table: bool = False, drop: str = DROP) -> None:
        self.directory = directory
        self.table = table
        self.drop = drop
        self.centre = Centre(directory)
        self.agents: dict[str, Process] = {}

    def __enter__(self) -> Sites:
        self.centre.start()
        try:
            self._prepare()
        except BaseException:
            self.centre.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        for site in SITES:
            for folder in (self.given(site), self.folder(site)):
                folder.mkdir(parents=True)
            with closing(sqlite3.connect(self.database(site), timeout=60)) as db:
                db.execute("CREATE TABLE items(SKU TEXT PRIMARY KEY, NAME TEXT, TIMES INTEGER NOT NULL DEFAULT 0)")
                db.executescript(  # counts writes: one that is applied twice is seen
                    "CREATE TRIGGER first AFTER INSERT ON items BEGIN"
                    " UPDATE items SET TIMES = TIMES + 1 WHERE SKU = new.SKU; END;"
                    "CREATE TRIGGER again AFTER UPDATE OF NAME ON items BEGIN"
                    " UPDATE items SET TIMES = TIMES + 1 WHERE SKU = new.SKU; END;"
                )
                db.commit()
        self.centre.run("apply", str(self.tree()))
        for site in SITES:
            self.agents[site] = self.centre.enrol(site).start()

    def __exit__(self, *_: object) -> None:
        self.centre.__exit__()

    def given(self, site: str) -> Path:
        return self.directory / site / "given"

    def folder(self, site: str) -> Path:
        return self.directory / site / "folder"

    def database(self, site: str) -> Path:
        return self.directory / site / "site.db"

    def state(self, site: str) -> Path:
        return self.directory / f"agent-{site}"

    def tree(self) -> Path:
        config = self.directory / "config"
        writers = ["drop", *(["table"] if self.table else [])]
        files = {"writers/drop.yaml": self.drop, **({"writers/table.yaml": TABLE} if self.table else {})}
        for site in SITES:
            paths = f"{{folder: {self.folder(site).as_posix()}, database: {self.database(site).as_posix()}}}"
            sinks = ", ".join(f"{site}-{writer}" for writer in writers)
            files |= {
                f"sites/{site}.yaml": f"site: {site}\nvariables: {paths}\n",
                f"sources/{site}.yaml": SOURCE.format(site=site, directory=self.given(site).as_posix()),
                f"mappings/{site}.yaml": MAPPING.format(site=site),
                f"routes/{site}.yaml": f'when: site == "{site}"\nto: [{sinks}]\n',
                **{f"sinks/{site}-{w}.yaml": SINK.format(site=site, writer=w) for w in writers},
            }
        for name, text in files.items():
            path = config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return config

    def give(self, site: str, name: str, items: dict[str, str]) -> None:
        """Products by sku, with their names, as one file for the source."""
        lines = "".join(json.dumps({"sku": sku, "name": text}) + "\n" for sku, text in items.items())
        temporary = self.given(site) / f"{name}.tmp"
        temporary.write_text(lines, "utf-8")
        temporary.rename(temporary.with_suffix(".jsonl"))

    def files(self, site: str) -> list[Path]:
        """What its reader may take: no temporary files, no markers."""
        return sorted(p for p in self.folder(site).iterdir() if p.suffix == ".json")

    def skus(self, site: str) -> list[str]:
        """Of the documents in the folder, one for each file."""
        return sorted(json.loads(path.read_text("utf-8"))["sku"] for path in self.files(site))

    def install_receipts(self, site: str) -> None:
        """As a person does at the site, once its configuration is there."""
        kept = self.state(site) / "last-good.json"
        wait_until(kept.exists, f"{site} has its configuration", 120)
        done = subprocess.run(
            [command("crossdock-agent"), "receipts", "table", "--install", "--yes", "--state", str(self.state(site))],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def typed(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CROSSDOCK_DATA": str(self.centre.data)}
        return subprocess.run(
            [command("crossdock"), *words], capture_output=True, encoding="utf-8", env=env, timeout=120, check=False
        )

    def change(self, site: str, sql: str) -> None:
        """As somebody at the site does."""
        with closing(sqlite3.connect(self.database(site), timeout=60)) as db:
            db.execute(sql)
            db.commit()

    def receipts(self, site: str) -> int:
        with closing(sqlite3.connect(self.database(site), timeout=60)) as db:
            count: int = db.execute("SELECT count(*) FROM crossdock_receipts").fetchone()[0]
        return count

    def settled(self) -> dict[str, int]:
        """By state, the deliveries that the controller knows of."""
        with closing(sqlite3.connect(self.centre.data / "state.db")) as db:
            return dict(db.execute("SELECT state, count(*) FROM site_deliveries GROUP BY state").fetchall())

    def rows(self, site: str) -> dict[str, tuple[str, int]]:
        """By sku, the name and how often it was written."""
        with closing(sqlite3.connect(self.database(site), timeout=60)) as db:
            return {sku: (name, times) for sku, name, times in db.execute("SELECT SKU, NAME, TIMES FROM items")}
