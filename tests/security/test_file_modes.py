"""What lies on the disks after a real run, started with the most careless umask there is."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import wait_until
from support.processes import Centre

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes; there files carry an ACL")

TREE = {
    "sites/atl1.yaml": "site: atl1\nzone: UTC\n",
    "sources/wms.yaml": "source: wms\non: {}\nkind: file_drop\ndirectory: DROP\npattern: '*.csv'\nsettle_seconds: 0\n"
    "poll_seconds: 0.1\nformat: {kind: csv, delimiter: ';'}\n",
    "mappings/wms.yaml": "mapping: wms\ndocument: StockLevel\n"
    "fields: {location: BIN, sku: ITEM, on_hand: {from: QTY, as: decimal}}\n",
}
PAYLOADS_AND_SECRETS = (
    "*.db", "*.db-wal", "*.db-shm", "*.key", "*.pem", "identity.json", "last-good.json", "candidate.json",
    "first-admin-token", "audit-heads.log", "*.hand",
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a run that took a record, made a backup, and still runs."""
    root = tmp_path_factory.mktemp("modes")
    config, drop = root / "config", root / "drop"
    drop.mkdir()
    for name, text in TREE.items():
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(text.replace("DROP", drop.as_posix()), "utf-8")
    before = os.umask(0)
    try:
        with Centre(root) as centre:
            centre.run("apply", str(config), "-m", "first")
            centre.enrol("atl1").start()
            (drop / "a.csv").write_text("BIN;ITEM;QTY\nA;1;5\nB;2;x\n", "utf-8")
            wait_until(lambda: centre.json("dead", "list")["dead_letters"], "the bad row is a dead letter", 120)
            centre.run("backup", str(root / "backup"))
            yield root
    finally:
        os.umask(before)


def open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.lstat().st_mode) & 0o077)


@pytest.mark.parametrize("directory", ["controller", "agent-atl1", "backup"])
def test_nobody_else_enters_a_directory_of_ours(ran: Path, directory: str) -> None:
    assert stat.S_IMODE((ran / directory).stat().st_mode) == 0o700


def test_what_holds_payloads_or_secrets_is_its_owners_alone_also_if_its_directory_were_opened(ran: Path) -> None:
    found = [p for kind in PAYLOADS_AND_SECRETS for p in ran.rglob(kind)]
    names = {p.name for p in found}
    assert {"state.db", "state.db-wal", "intake.db", "outbox.db", "ca.key", "identity.json"} <= names
    assert [str(p.relative_to(ran)) for p in found if open_to_others(p)] == []


def test_every_file_of_a_backup_is_its_owners_alone(ran: Path) -> None:
    files = [p for p in (ran / "backup").rglob("*") if p.is_file()]
    assert len(files) >= 5
    assert [str(p.relative_to(ran)) for p in files if open_to_others(p)] == []
