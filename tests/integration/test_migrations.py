"""Files of every released schema come forward with all that is in them, also when the upgrade is killed anywhere."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError
from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import Outbox
from crossdock_agent.outbox import schema as outbox_schema
from crossdock_controller.store import connection, facts, intake_schema, migrate, schema
from crossdock_controller.store.intake import IntakeReader, IntakeWriter
from support.migration_process import make, version
from support.store_site import incoming

RELEASED = Path(__file__).parent.parent / "released"
HEADS = {"outbox": str(outbox_schema.SCHEMA_VERSION), "intake": str(len(intake_schema.VERSIONS)), "state": schema.HEAD}
posix_only = pytest.mark.skipif(os.name == "nt", reason="the harness forks; the migrations are the same on Windows")


def released(name: str, path: Path) -> Path:
    make((RELEASED / f"{name}.sql").read_text("utf-8"), path)
    return path


def rows(path: Path, columns_of: Path | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in *path*, in the tables and columns that *columns_of* has."""
    with closing(sqlite3.connect(columns_of or path)) as db:
        tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        shape = {t: [row[1] for row in db.execute(f"PRAGMA table_info({t})")] for t in tables}
    kept = {t: c for t, c in shape.items() if t not in {"_sqlite_migrations", "alembic_version"}}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {t: sorted(db.execute(f"SELECT {', '.join(c)} FROM {t}").fetchall(), key=repr) for t, c in kept.items()}


def test_every_released_schema_has_a_fixture() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={})
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    states = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    expected = {f"state-{revision}" for revision in states if revision != schema.HEAD}
    expected |= {f"outbox-{n}" for n in range(1, outbox_schema.SCHEMA_VERSION)}
    expected |= {f"intake-{n}" for n in range(1, max(2, len(intake_schema.VERSIONS)))}
    assert {p.stem for p in RELEASED.glob("*.sql")} == expected


@pytest.mark.parametrize("file", sorted(p.stem for p in RELEASED.glob("*.sql")))
def test_a_released_file_comes_forward_with_everything_in_it(file: str, tmp_path: Path) -> None:
    from support.migration_process import migrate as run

    kind = file.partition("-")[0]
    old, new = released(file, tmp_path / "old.db"), released(file, tmp_path / "new.db")
    run(kind, new)
    assert version(new) == HEADS[kind]
    before, after = rows(old), rows(new, old)
    assert after == before


@posix_only
@pytest.mark.parametrize("file", ["", *sorted(p.stem for p in RELEASED.glob("*.sql"))])
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_an_upgrade_killed_before_any_of_its_statements_is_finished_by_the_next_start(
    kind: str, file: str, tmp_path: Path
) -> None:
    if file and not file.startswith(kind):
        return  # that pair is no case
    sql = str(RELEASED / f"{file}.sql") if file else ""
    program = Path(__file__).parent.parent / "support" / "migration_process.py"
    done = subprocess.run(
        [sys.executable, str(program), kind, sql, str(tmp_path)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    first = file.partition("-")[2] or ("None" if kind == "state" else "0")
    assert said["killed"] > 4, said
    assert set(said["left"]) <= {first, *_between(kind)}, said
    whole = rows(tmp_path / "warm.db") if not file else rows(released(file, tmp_path / "old.db"))
    paths = list(tmp_path.glob(f"{kind}-*.db"))
    assert len(paths) >= said["killed"]
    for path in paths:
        assert version(path) == HEADS[kind]
        if file:
            assert rows(path, tmp_path / "old.db") == whole
        else:
            assert rows(path).keys() == whole.keys()


def _between(kind: str) -> set[str]:
    if kind == "state":
        return {"None", "0", "0001", schema.HEAD}
    return {str(n) for n in range(int(HEADS[kind]) + 1)}


def test_an_outbox_of_the_first_release_goes_on_sending_where_it_was(tmp_path: Path) -> None:
    released("outbox-1", tmp_path / "outbox.db")
    assert outbox_schema.inspect(tmp_path / "outbox.db") == (6, 435)  # before the upgrade: `crossdock-agent check`
    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as box:
        assert box.quarantined is None
        assert [b.sequence for b in box.page("stock", 0, 10_000)] == [5, 6, 7]
        assert [token for _, token in box.releases("stock")] == [b"archive 3", b"archive 4"]
        assert box.unreleased("stock") == [f"archive {n}".encode() for n in (3, 4, 5, 6, 7)]
        box.acknowledge("stock", box.epoch, 6)
        box.acknowledge("orders", box.epoch, 3)
        box.finish_releases([])
        assert [token for _, token in box.releases("stock")] == [f"archive {n}".encode() for n in (3, 4, 5, 6)]
        assert box.rewind("orders", 1) == 2
        assert box.rewind("stock", 3) is None  # batch 4 was deleted by the first release
    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as box:
        assert box.quarantined is None


def test_a_damaged_outbox_of_the_first_release_is_set_aside(tmp_path: Path) -> None:
    with closing(sqlite3.connect(released("outbox-1", tmp_path / "outbox.db"))) as db:
        db.execute("DELETE FROM batches WHERE sequence = 6")
        db.commit()
    with Outbox(tmp_path / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as box:
        assert box.quarantined is not None


def test_an_intake_of_the_first_release_goes_on(tmp_path: Path) -> None:
    path = released("intake-1", tmp_path / "intake.db")
    writer, reader = IntakeWriter(path), IntakeReader(path)
    assert [(s.source, s.last_sequence) for s in reader.streams()] == [("stock", 5), ("orders", 1)]
    assert writer.commit([incoming(6, "stock")], 5)[0].state == "stored"
    assert writer.commit([incoming(8, "stock")], 5)[0].state == "gap"
    writer.close()
    reader.close()


def test_an_intake_upgrade_that_fails_leaves_the_version_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, path = released("intake-1", tmp_path / "old.db"), released("intake-1", tmp_path / "intake.db")
    before, known = rows(old), intake_schema.VERSIONS
    monkeypatch.setattr(intake_schema, "VERSIONS", (*known, "CREATE TABLE extra(x);\nCREATE TABLE extra(x);\n"))
    with pytest.raises(sqlite3.OperationalError, match="extra"):
        IntakeWriter(path)
    assert version(path) == str(len(known))
    assert rows(path, old) == before
    assert "extra" not in rows(path)
    monkeypatch.setattr(intake_schema, "VERSIONS", (*known, "CREATE TABLE extra(x);\nALTER TABLE streams ADD y;\n"))
    IntakeWriter(path).close()
    assert version(path) == str(len(known) + 1)
    after = rows(path)
    assert after["extra"] == []
    assert [row[:-1] for row in after["streams"]] == before["streams"]


def test_an_intake_of_a_newer_release_is_refused_with_the_next_step_and_left_alone(tmp_path: Path) -> None:
    path = released("intake-1", tmp_path / "intake.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=rf"schema 99, this release knows {len(intake_schema.VERSIONS)}") as refused:
        IntakeWriter(path)
    assert "or a newer one" in refused.value.hint
    assert path.read_bytes() == before


def test_a_state_of_the_first_release_gets_an_id_that_stays(tmp_path: Path) -> None:
    path = released("state-0001", tmp_path / "state.db")
    migrate(path)
    with closing(connection.connect(path)) as db:
        first = facts.store_id(db)
        assert len(first) == facts.STORE_BYTES
        assert facts.restored(db) is None
    migrate(path)
    with closing(connection.connect(path)) as db:
        assert facts.store_id(db) == first
