"""The configuration of a run, and the changes that are pushed in its middle."""

from __future__ import annotations

from pathlib import Path

from chaos.schedule import AGENTS

STRAY_SITE = "cli1"  # where the misbehaving client pretends to be
STRAY_SOURCE = "stray"
STATES_ONLY = frozenset({"shelves"})
_CSV = 'format: {kind: csv, delimiter: ";"}'

_SOURCES = {
    "shipments": f"""kind: file_drop
lane: critical
directory: ${{root}}/shipments
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.3
afterwards: archive
{_CSV}
""",
    "stock": f"""kind: file_drop
lane: bulk
directory: ${{root}}/stock
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.3
afterwards: delete
{_CSV}
""",
    "journal": """kind: file_tail
directory: ${root}/journal
pattern: "journal.log"
poll_seconds: 0.3
format: {kind: jsonl}
""",
    "orders": """kind: sql_table
lane: critical
connection: {sqlite: "${root}/orders.db"}
table: orders
mode: incrementing
column: id
key: [id]
look_back_seconds: 5
poll_seconds: 0.3
""",
    "exports": """kind: sql_table
connection: {sqlite: "${root}/exports.db"}
table: exports
mode: outbox
column: id
poll_seconds: 0.3
""",
    "shelves": """kind: sql_table
lane: bulk
connection: {sqlite: "${root}/shelves.db"}
table: shelves
mode: snapshot
key: [sku]
poll_seconds: 0.5
""",
}
SOURCES = tuple(_SOURCES)
_COLUMNS = {"shipments": ("SKU", "QTY"), "stock": ("SKU", "QTY")}
WEB_SOURCES = ("orders", "journal")  # one request a document: not all of it


class Tree:
    """The files of one run. `write` puts them there as they are by default, or with a change."""

    def __init__(self, directory: Path, roots: dict[str, Path], sinks: dict[str, str]) -> None:
        """*roots*: where the business of each site is; *sinks*: url or directory of rows, latest, web and files."""
        self.directory = directory
        self._roots, self._sinks = roots, sinks

    def write(self, change: str = "") -> Path:
        """*change*, one of CHANGES: `poll` and `batch` alter settings, `source` takes one from a site, `route` adds a
        route and a sink."""
        wanted = {**self._sites(), **self._sources(change), **self._mappings(), **self._rest(change)}
        for path in self.directory.rglob("*.yaml"):
            if path.relative_to(self.directory).as_posix() not in wanted:
                path.unlink()
        for name, text in wanted.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return self.directory

    def _sites(self) -> dict[str, str]:
        sites = {
            f"sites/{site}.yaml": f"site: {site}\nlabels: {{real: yes}}\n"
            f"variables: {{root: {self._roots[site].as_posix()}}}\noutbox: {{min_free_disk_bytes: 0}}\n"
            for site in AGENTS
        }
        return {**sites, f"sites/{STRAY_SITE}.yaml": f"site: {STRAY_SITE}\nlabels: {{real: no}}\n"}

    def _sources(self, change: str) -> dict[str, str]:
        found = {
            f"sources/{name}.yaml": f"source: {name}\non: {{real: yes}}\n{_changed(text, change)}"
            for name, text in _SOURCES.items()
        }
        if change == "source":
            found["sources/orders.yaml"] = found["sources/orders.yaml"].replace("real: yes", "site: atl1")
        found[f"sources/{STRAY_SOURCE}.yaml"] = (
            f"source: {STRAY_SOURCE}\non: {{site: {STRAY_SITE}}}\nkind: file_tail\ndirectory: /nowhere\n"
            "format: {kind: jsonl}\n"
        )
        return found

    def _mappings(self) -> dict[str, str]:
        found = {}
        for name in (*SOURCES, STRAY_SOURCE):
            sku, quantity = _COLUMNS.get(name, ("sku", "qty"))
            found[f"mappings/{name}.yaml"] = (
                f"mapping: {name}\ndocument: StockLevel\n"
                f"fields: {{location: $source, sku: {sku}, on_hand: {{from: {quantity}}}}}\n"
                + ("deletes: ignore\n" if name == "shelves" else "")
            )
        return found

    def _rest(self, change: str) -> dict[str, str]:
        web = ", ".join(f'"{source}"' for source in WEB_SOURCES)
        found = {
            "routes/all.yaml": 'when: document == "StockLevel"\nto: [rows, latest, files]\n',
            "routes/web.yaml": f'when: document == "StockLevel" && source in [{web}]\nto: [web]\n',
            "sinks/rows.yaml": f"""sink: rows
kind: sql
retry_hours: 8760
url: sqlite:///{self._sinks["rows"]}
tables:
  StockLevel:
    table: rows
    key: [sku, version]
    columns: {{sku: sku, version: on_hand.value, event_id: $event_id, sequence: $sequence}}
""",
            "sinks/latest.yaml": f"""sink: latest
kind: sql
retry_hours: 8760
url: sqlite:///{self._sinks["latest"]}
tables:
  StockLevel:
    table: latest
    key: [sku]
    columns: {{sku: sku, version: on_hand.value, sequence: $sequence}}
""",
            "sinks/web.yaml": f"""sink: web
kind: http
retry_hours: 8760
url: {self._sinks["web"]}
timeout_seconds: 2
concurrency: 4
""",
            "sinks/files.yaml": f"sink: files\nkind: file\ndirectory: {self._sinks['files']}\n",
        }
        if change == "route":
            found["routes/some.yaml"] = 'when: document == "StockLevel" && source == "stock"\nto: [files, more]\n'
            found["sinks/more.yaml"] = f"sink: more\nkind: file\ndirectory: {self._sinks['files']}-more\n"
        return found


def _changed(text: str, change: str) -> str:
    """A source's settings under *change*."""
    if change == "poll":
        return text.replace("poll_seconds: 0.3", "poll_seconds: 0.7")
    return f"{text}budget: {{max_rows_per_poll: 7}}\n" if change == "batch" else text
