"""The writer "file_drop": complete files, each once, wherever it was killed; nobody else's file is touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError
from crossdock_agent.writers import base
from crossdock_agent.writers.base import Job, Verdict, Writer, WriterContext, WriterUnavailable


class Place:
    """A folder, and a writer's ledger as the inbox would keep it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.ledger: dict[str, bytes] = {}
        self.settings = {"directory": str(folder), **settings}

    def writer(self) -> Writer:
        context = WriterContext("drop", self.ledger.get, lambda text: text, lambda: 0)
        return base.build("file_drop", self.settings, context)

    def prepared(self, job: Job) -> Job:
        (note,) = self.writer().prepare([job])
        assert isinstance(note, bytes), note
        return Job(job.id, 1, job.document, job.key, job.version, job.payload, note, job.undo, job.undoes)

    def applied(self, job: Job) -> Verdict:
        (verdict,) = self.writer().apply([job])
        for key, value in verdict.remember:
            self.ledger.update({key: value} if value is not None else {})
            if value is None:
                del self.ledger[key]
        return verdict

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def job(key: str = "4711", version: int = 1, **more: Any) -> Job:
    payload = json.dumps({"number": key, "version": version, **more}).encode()
    return Job(hashlib.blake2b(f"{key}/{version}".encode(), digest_size=16).digest(), 1, "Order", key, version, payload)


def undo_of(done: Job, verdict: Verdict) -> Job:
    return Job(b"u" * 16, 1, done.document, done.key, done.version, b"", undo=verdict.note, undoes=done.id)


def test_a_file_that_can_be_seen_is_complete_and_its_marker_comes_after_it(tmp_path: Path) -> None:
    place = Place(tmp_path, marker="{name}.done")
    ready = place.prepared(job())
    assert all(name.startswith(".") for name in place.names())
    assert place.applied(ready).outcome == "applied"
    assert place.names() == ["Order-4711-000000000001.json", "Order-4711-000000000001.json.done"]


def test_a_writer_killed_after_the_rename_does_not_write_again_what_was_taken_away(tmp_path: Path) -> None:
    place = Place(tmp_path, marker="{name}.done")
    ready = place.prepared(job())
    place.applied(ready)
    for name in place.names():  # its reader took both, then the agent comes back without having settled it
        (tmp_path / name).unlink()
    assert place.applied(ready).outcome == "applied"
    assert place.names() == []


def test_a_writer_killed_before_the_rename_goes_on_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    ready = place.prepared(job())
    assert place.applied(ready).outcome == "applied"
    assert json.loads((tmp_path / "Order-4711-000000000001.json").read_text("utf-8"))["number"] == "4711"


def test_a_foreign_file_is_never_overwritten(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "Order-4711-000000000001.json").write_text("theirs", "utf-8")
    verdict = place.applied(place.prepared(job()))
    assert (verdict.outcome, verdict.code) == ("rejected", "conflict")
    assert place.names() == ["Order-4711-000000000001.json"]
    assert (tmp_path / "Order-4711-000000000001.json").read_text("utf-8") == "theirs"


def test_an_agent_that_lost_its_inbox_finds_its_own_file(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.applied(place.prepared(job()))
    assert place.applied(place.prepared(job())).outcome == "applied"
    assert place.names() == ["Order-4711-000000000001.json"]


def test_a_later_version_replaces_our_file_and_an_undo_gives_back_what_it_held(tmp_path: Path) -> None:
    place = Place(tmp_path, name="{key}.json", replace=True)
    place.applied(place.prepared(job(version=1)))
    second = place.prepared(job(version=2))
    verdict = place.applied(second)
    assert json.loads((tmp_path / "4711.json").read_text("utf-8"))["version"] == 2
    taken_back = place.prepared(undo_of(second, verdict))
    for _ in range(2):  # the second time as after a kill
        assert place.applied(taken_back).outcome == "applied"
    assert json.loads((tmp_path / "4711.json").read_text("utf-8"))["version"] == 1
    assert place.applied(place.prepared(job(version=3))).outcome == "applied"  # it is known as ours again


def test_a_file_of_ours_that_was_changed_is_neither_replaced_nor_taken_back(tmp_path: Path) -> None:
    place = Place(tmp_path, name="{key}.json", replace=True)
    first = place.prepared(job(version=1))
    verdict = place.applied(first)
    (tmp_path / "4711.json").write_text("edited", "utf-8")
    for other in (job(version=2), undo_of(first, verdict)):
        (found,) = place.writer().prepare([other])
        assert isinstance(found, Verdict)
        assert found.code == "conflict"
    assert (tmp_path / "4711.json").read_text("utf-8") == "edited"


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "..", "a/b", "a\\b", "C:\\x", "CON", "nul.txt", "x" * 5000, "a\x00b", ".hidden", "ü~\n"]
)
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    place = Place(folder, name="{key}.{id}.json")
    assert place.applied(place.prepared(job(key))).outcome == "applied"
    (name,) = place.names()
    assert len(name) < 255
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert not name.upper().startswith(("CON.", "NUL."))


def test_different_keys_have_different_names(tmp_path: Path) -> None:
    place = Place(tmp_path, name="{key}.json", replace=True)
    for key in ("a/b", "a%2Fb", "a b", "a%20b", "y" * 300 + "1", "y" * 300 + "2"):
        assert place.applied(place.prepared(job(key))).outcome == "applied"
    assert len(place.names()) == 6


def test_lines_become_rows_of_a_csv_file_and_what_its_encoding_lacks_is_refused(tmp_path: Path) -> None:
    columns = {"NO": "^.number", "SKU": "sku", "QTY": "quantity.value"}
    how = {"columns": columns, "each": "lines", "encoding": "cp1252"}
    place = Place(tmp_path, name="{key}-{sequence}.csv", csv=how)
    lines = [{"sku": "S;1", "quantity": {"value": "2.5"}}, {"sku": "Ü"}]
    place.applied(place.prepared(job(lines=lines)))
    assert (tmp_path / "4711-000000000001.csv").read_bytes() == (
        b'NO;SKU;QTY\r\n4711;"S;1";2.5\r\n4711;\xdc;\r\n'
    )  # fmt: skip
    for bad in ({"lines": [{"sku": "漢"}]}, {"lines": 5}, {"lines": [{"sku": {"a": 1}}]}):
        (found,) = place.writer().prepare([job("2", **bad)])
        assert isinstance(found, Verdict)
        assert found.outcome == "rejected"


def test_a_folder_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WriterUnavailable, match="cannot be written"):
        Place(tmp_path / "gone").writer().prepare([job()])
    assert [finding.ok for finding in Place(tmp_path / "gone").writer().check()] == [False]
    assert [finding.ok for finding in Place(tmp_path).writer().check()] == [True]


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "{document}.json"}, {"name": "{key}.json"}, {"name": "a/{id}"}, {"name": "{nothing}-{id}"},
        {"marker": "done"}, {"csv": {"columns": {"A": "a"}, "encoding": "no-such"}}, {"nonsense": 1},
    ],
)  # fmt: skip
def test_settings_that_could_not_work_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="writer drop"):
        Place(tmp_path, **settings).writer()
