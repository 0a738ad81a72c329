"""`crossdock-agent try`: what a person sees of a source, and that nothing of it was touched."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from crossdock import siteconfig
from crossdock.errors import ConfigError, SourceUnavailable
from crossdock.siteconfig import SiteConfig, SourceConfig
from crossdock.v1.batch_pb2 import BatchHeader, Column, Origin, Reject
from crossdock_agent import trial
from crossdock_agent.commands import main
from crossdock_agent.configuration import LastGood
from crossdock_agent.pump import wall_us
from crossdock_agent.sources import base
from support import sources
from support.source_rigs import FileRig, SourceRig, TableRig

SHIPMENTS = "NO;ITEM;QTY\r\n" + "".join(f"{i:06d};Größe {i};{i},50\r\n" for i in range(1, 400))


def attempt(config: SourceConfig, records: int = 10, seconds: float = 30.0) -> trial.Trial:
    return trial.attempt(config, lambda text: text, wall_us, records=records, seconds=seconds)


def tree_of(directory: Path) -> dict[str, tuple[str, int]]:
    """Every file below *directory*: its content and its time."""
    return {
        str(path.relative_to(directory)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def run(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def source_file(directory: Path, **settings: Any) -> Path:
    given = {
        "source": "wms", "on": {}, "kind": "file_drop", "directory": str(directory / "out"), "afterwards": "delete",
        "format": {"kind": "csv", "delimiter": ";", "encoding": "cp1252"}, **settings,
    }  # fmt: skip
    path = directory / "wms.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    return path


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "SHP1.csv").write_bytes(SHIPMENTS.encode("cp850"))
    return tmp_path


def test_the_first_records_are_shown_with_what_they_suggest_and_where_that_differs(drop: Path) -> None:
    said = run("try", "--from-file", source_file(drop), "--state", drop / "state", "--records", "3")
    assert "source wms (file_drop, csv)" in said
    assert "nothing was moved, sent or remembered" in said
    assert "000001" in said
    assert "000004  " not in said.split("guessed settings")[0]
    assert "3 of 399 shown" in said
    assert "cp850  cp1252" in " ".join(said.split()).replace("cp850 cp1252", "cp850  cp1252")
    assert "as guessed: 000001;Größe 1;1,50" in said
    assert "decimal comma" in said
    assert "checkpoint it would have: " in said


@pytest.mark.parametrize("settings", [{}, {"claim": True}])
def test_nothing_is_touched_though_the_source_would_delete_what_it_has_read(
    drop: Path, settings: dict[str, Any]
) -> None:
    file = source_file(drop, **settings)
    before = tree_of(drop)
    assert "000001" in run("try", "--from-file", file, "--state", drop / "state")
    assert tree_of(drop) == before
    assert not (drop / "state").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "incrementing", "timestamp"])
def test_every_kind_is_tried_by_its_contract_alone_and_leaves_no_trace(tmp_path: Path, kind: str) -> None:
    rig: SourceRig = (
        TableRig(tmp_path, kind)
        if kind in {"incrementing", "timestamp"}
        else FileRig(tmp_path, "delete", kind=kind, **({"delimiter": ";"} if kind == "csv" else {}))
    )
    rig.put(20)
    before, state = tree_of(tmp_path), rig.state()
    found = attempt(SourceConfig(name="x", kind=rig.kind, settings=rig.settings), records=7)
    assert len(found.rows) == 7
    assert found.names == {"csv": ["NO", "TEXT"], "jsonl": ["(not JSON)"]}.get(kind, ["id", "text", "at"])
    assert found.checkpoint is not None
    assert msgspec.json.encode(found)
    assert (tree_of(tmp_path), rig.state()) == (before, state)


def test_awkward_records_are_shown_in_one_line_each(tmp_path: Path) -> None:
    for rig in (FileRig(tmp_path / "a"), FileRig(tmp_path / "b", kind="jsonl"), TableRig(tmp_path / "c")):
        rig.put_hostile()
        config = SourceConfig(name="x", kind=rig.kind, settings=rig.settings)
        from crossdock_agent.trial_text import of_trial

        lines = list(of_trial(attempt(config, records=50), config.settings))
        assert all("\n" not in line and "\x00" not in line and "\x1a" not in line for line in lines)


def test_a_record_too_deep_to_be_read_is_shown_as_text(drop: Path) -> None:
    (drop / "out" / "SHP1.csv").write_text('{"a":' * 100_000 + "1" + "}" * 100_000 + "\n", encoding="utf-8")
    said = run("try", "--from-file", source_file(drop, format={"kind": "jsonl"}), "--state", drop / "state")
    assert "(not JSON)" in said


def test_a_log_that_is_begun_at_its_end_is_shown_from_its_beginning(drop: Path) -> None:
    (drop / "out" / "x.log").write_text("NO;TEXT\n1;first\n", encoding="utf-8")
    settings = {
        "directory": str(drop / "out"), "pattern": "*.log", "start": "end", "format": {"kind": "csv", "delimiter": ";"},
    }  # fmt: skip
    found = attempt(SourceConfig(name="x", kind="file_tail", settings=settings))
    assert found.rows == [["1", "first"]]
    assert "read from the beginning" in found.notes[0]


def test_files_that_may_still_be_written_are_shown_without_waiting_for_them_to_settle(drop: Path) -> None:
    found = attempt(SourceConfig(name="x", kind="file_drop", settings={
        "directory": str(drop / "out"), "settle_seconds": 3600, "format": {"kind": "csv", "delimiter": ";"},
    }))  # fmt: skip
    assert found.records == 399


def test_a_log_that_is_to_be_begun_at_its_end_is_shown_from_its_beginning(drop: Path) -> None:
    settings = {
        "directory": str(drop / "out"), "pattern": "*.csv", "start": "end",
        "format": {"kind": "lines", "encoding": "cp850"},
    }  # fmt: skip
    found = attempt(SourceConfig(name="x", kind="file_tail", settings=settings), records=3)
    assert len(found.rows) == 3
    assert str(found.rows[0][0]).startswith("NO;ITEM")
    assert found.notes == ["'start: end' would show nothing: it was read from the beginning"]


def test_an_empty_folder_says_what_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "are pattern, folder or 'where' right?" in run("try", "--from-file", source_file(tmp_path))


def test_what_cannot_be_reached_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    said = run("try", "--from-file", source_file(tmp_path), code=1)
    assert said.startswith("Error: ")
    assert "Next: " in said
    with pytest.raises(SourceUnavailable):
        attempt(SourceConfig(name="x", kind="sql_table", settings={
            "connection": {"sqlite": str(tmp_path / "none.db")}, "table": "t", "mode": "incrementing", "column": "id",
        }))  # fmt: skip


def test_a_table_shows_its_types_keys_and_watermark_candidates(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "erp.db")
    db.execute(
        "CREATE TABLE o (id INTEGER PRIMARY KEY, no TEXT NOT NULL UNIQUE, write_date TEXT, create_date TEXT NOT NULL)"
    )
    db.execute("CREATE INDEX o_w ON o (write_date)")
    at = "2026-11-25 10:00:00"
    db.executemany(
        "INSERT INTO o VALUES (?, ?, ?, ?)", [(i, f"SO{i}", at if i % 2 else None, at) for i in range(1, 101)]
    )
    db.commit()
    db.close()
    path = tmp_path / "orders.yaml"
    path.write_text(
        "source: orders\non: {}\nkind: sql_table\nconnection: {sqlite: '" + (tmp_path / "erp.db").as_posix() + "'}\n"
        "table: o\nmode: incrementing\ncolumn: id\n"
    )
    said = run("try", "--from-file", path, "--records", "2")
    assert "watermark candidate write_date (timestamp): named like a time of change, begins an index" in said
    assert "50% of the sample is NULL" in said
    assert 'suggested: mode: timestamp, column: ["write_date","create_date"], key: ["id"]' in said
    assert "it is set otherwise: mode: incrementing, column: id" in said
    as_json = json.loads(run("try", "--from-file", path, "--json"))
    assert as_json["table"]["survey"]["keys"] == [["id"], ["no"]]
    assert as_json["rows"][0] == [1, "SO1", at, at]


class Odd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    batches: int = 1


class OddSource(sources.TapeSource):
    """A kind nobody here knows: a format of its own, nested rows, rejects."""

    released = 0

    def __init__(self, settings: Odd, context: base.SourceContext) -> None:
        self._many, self._context = settings.batches, context

    def read(self, checkpoint: bytes | None) -> Iterator[base.Draft]:
        for i in range(int(checkpoint or b"0"), self._many):
            assert self._context.memory.recall(f"k{i - 1}") == (b"seen" if i else None)
            reject = Reject(record=3, code="too_long", reason="record 3 has 9 bytes", sample=b"123456\xff")
            header = BatchHeader(
                format="rows", records=2, checkpoint=b"%d" % (i + 1), rejects=[reject], origin=Origin(name="t"),
                columns=[Column(name="no", type="integer"), Column(name="lines", type="list"), Column(name="$op")],
            )  # fmt: skip
            yield base.Draft(
                header, msgspec.msgpack.encode([i, [["a", 1], ["b", 2]], "upsert"]) * 2, ((f"k{i}", b"seen"),), b"t"
            )

    def release(self, token: bytes) -> None:
        OddSource.released += 1

    def close(self) -> None:
        pass


def test_a_kind_with_nested_rows_and_rejects_is_shown_and_never_released() -> None:
    base.register("odd", Odd, OddSource)
    found = attempt(SourceConfig(name="x", kind="odd", settings={"batches": 100}), records=3)
    assert found.rows == [[0, [["a", 1], ["b", 2]], "upsert"]] * 2 + [[1, [["a", 1], ["b", 2]], "upsert"]]
    assert found.more
    assert found.checkpoint == "2"
    assert found.rejects[0].reason == "record 3 has 9 bytes"
    assert OddSource.released == 0


def test_an_unknown_format_of_bytes_is_shown_as_it_begins() -> None:
    class Xml(OddSource):
        def read(self, checkpoint: bytes | None) -> Iterator[base.Draft]:
            if checkpoint is None:
                header = BatchHeader(
                    format="xml", records=2, checkpoint=b"1", prefix=b"<os>", origin=Origin(name="o.xml")
                )
                yield base.Draft(header, b"<o>1</o>\n<o>2</o>")

    base.register("xmlish", Odd, Xml)
    found = attempt(SourceConfig(name="x", kind="xmlish"))
    assert found.rows == [["o.xml", 2, 17, "<o>1</o>\n<o>2</o>"]]
    assert found.file is not None
    assert found.file.guesses[0].value == "xml"


def test_it_ends_by_itself_when_a_source_does_not() -> None:
    class Endless(OddSource):
        def read(self, checkpoint: bytes | None) -> Iterator[base.Draft]:
            self._context.stop.wait(60)
            return iter(())

    base.register("endless", Odd, Endless)
    found = attempt(SourceConfig(name="x", kind="endless"), seconds=0.05)
    assert "broken off after 0.05 s" in found.notes[0]


def test_a_source_of_this_site_is_tried_by_its_name_from_the_last_good_configuration(drop: Path) -> None:
    state = drop / "state"
    assert "there is no configuration here yet" in run("try", "wms", "--state", state, code=1)
    state.mkdir()
    source = SourceConfig(name="wms", kind="file_drop", settings={
        "directory": str(drop / "out"), "format": {"kind": "csv", "delimiter": ";", "encoding": "cp850"},
    })  # fmt: skip
    config = siteconfig.encode(SiteConfig(site="atl1", revision=1, sources=[source]))
    (state / "last-good.json").write_bytes(msgspec.json.encode(LastGood(1, siteconfig.digest(config), config)))
    assert "Größe 1" in run("try", "wms", "--state", state)
    assert "this site has no source 'wsm'" in run("try", "wsm", "--state", state, code=1)
    assert [path.name for path in state.iterdir()] == ["last-good.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: x\nkind: file_drop\ndirectory: ${root}/out\nformat: {kind: csv}", "uses ${root}"),
        ("source: x\ndirectory: out", "'kind' is missing"), ("source: x\nkind: tape_drop", "unknown kind 'tape_drop'"),
        ("source: x\nkind: file_drop\ndirectory: out\nformat: {kind: csv}\nquiet: [noon]", "'noon' is not an hour"),
        ("source: x\nkind: file_drop\ndirectroy: out", "directroy"), ("- a", "holds no 'key: value'"),
        ("source: x\nkind: file_drop\nschedule: {cron: '* *'}", "has 2 fields"), ("a: 'b", "x.yaml:1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_source_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    output = run("try", "--from-file", path, code=1)
    assert said in output
    assert "Traceback" not in output


def test_a_variable_of_a_site_can_be_given(drop: Path) -> None:
    path = drop / "x.yaml"
    path.write_text("source: x\nkind: file_drop\ndirectory: ${root}/out\nformat: {kind: csv, delimiter: ';'}\n")
    assert "000001" in run("try", "--from-file", path, "--variable", f"root={drop.as_posix()}")
    assert "has no '='" in run("try", "--from-file", path, "--variable", "root", code=2)
    assert "name one" in run("try", code=2)


def test_a_file_alone_is_guessed_without_any_settings(drop: Path) -> None:
    said = run("try", "--file", drop / "out" / "SHP1.csv")
    assert 'to copy: format: {kind: csv, delimiter: ";", encoding: cp850}' in said
    assert "is set to" not in said
    assert "cannot be read" in run("try", "--file", drop / "none.csv", code=1)
    guessed = {
        g["setting"]: g["value"]
        for g in json.loads(run("try", "--file", drop / "out" / "SHP1.csv", "--json"))["guesses"]
    }
    assert guessed["format.encoding"] == "cp850"


def test_a_source_that_lacks_only_its_format_shows_what_its_first_file_looks_like(drop: Path) -> None:
    path = drop / "x.yaml"
    path.write_text(f"source: x\nkind: file_drop\ndirectory: {drop.as_posix()}/out\npattern: SHP*.csv\n")
    said = run("try", "--from-file", path)
    assert "source x has no 'format' yet; this is what SHP1.csv looks like" in said
    assert "to copy: format: " in said
    path.write_text(f"source: x\nkind: file_drop\ndirectory: {drop.as_posix()}/out\npattern: ORD*.csv\n")
    assert "there is no file ORD*.csv in" in run("try", "--from-file", path, code=1)


def test_records_of_structures_are_told_apart_by_the_lengths_in_their_header() -> None:
    class Header(msgspec.Struct):
        format: str
        record_bytes: list[int]
        records: int = 2

    from crossdock_agent import sampling

    xml = base.Draft(Header("xml", [8, 9]), b"<o>1</o><o>22</o>")  # type: ignore[arg-type]
    assert sampling.records([xml], {}, 10).rows == [["<o>1</o>"], ["<o>22</o>"]]
    made = base.Draft(Header("json", [8, 10]), b'{"a": 1}{"b": "2"}')  # type: ignore[arg-type]
    assert sampling.records([made], {}, 10) == sampling.Shape(["a", "b"], [], [[1, ""], ["", "2"]])


def test_a_secret_is_resolved_at_the_site_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "source: x\nkind: sql_table\nconnection: {odbc: 'DRIVER=none;PWD={secret:erp-db}', dialect: postgresql}\n"
        "table: t\nmode: incrementing\ncolumn: id\n"
    )
    said = run("try", "--from-file", path, "--state", tmp_path / "state", code=1)
    assert "secret 'erp-db' is not known here" in said
    with pytest.raises(ConfigError):
        attempt(SourceConfig(name="x", kind="nothing"))


@pytest.mark.parametrize("label", ["order lines", "o"])
def test_the_name_a_query_gives_its_rows_is_taken_for_no_table(tmp_path: Path, label: str) -> None:
    db = sqlite3.connect(tmp_path / "erp.db")
    db.executescript("CREATE TABLE o (id INTEGER PRIMARY KEY); INSERT INTO o VALUES (1)")
    db.close()
    found = attempt(SourceConfig(name="x", kind="sql_query", settings={
        "connection": {"sqlite": str(tmp_path / "erp.db")}, "query": "SELECT id FROM o", "table": label,
        "mode": "incrementing", "column": "id",
    }))  # fmt: skip
    assert (found.rows, found.table) == ([[1]], None)
