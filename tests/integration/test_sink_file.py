"""Crashes at every step of the file sink, and a consumer that takes files away at any time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crossdock.errors import SinkUnavailable
from crossdock_controller.sinks import file as file_sink
from crossdock_controller.sinks import file_ledger
from crossdock_controller.sinks.base import Outgoing
from crossdock_controller.sinks.file import FileSettings
from crossdock_controller.sinks.file_ledger import Ledger
from support.sink_rigs import FileRig, build, thing

STATE = "finance-#.jsonl"


@pytest.fixture
def rig(tmp_path: Path) -> FileRig:
    return FileRig(tmp_path)


class Crash(BaseException):
    """Ends the process as far as the sink can tell: nothing of it runs any more."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    match step:
        case "before the lines are written":
            monkeypatch.setattr(file_sink, "write_synced", crash)
        case "with half of the lines written":
            monkeypatch.setattr(file_sink, "write_synced", lambda path, data: (path.write_bytes(data[:20]), crash()))
        case "before the ledger entry":
            monkeypatch.setattr(Ledger, "append", crash)
        case "with half of the ledger entry":
            monkeypatch.setattr(Ledger, "append", lambda self, n, ids: (self._file.write(b"CDL1\0\0"), crash()))
        case "before the final name":
            monkeypatch.setattr(file_sink.FileSink, "_finish", crash)
        case "before the verdict":
            monkeypatch.setattr(file_sink, "sync_directory", crash)
        case _:
            raise AssertionError(step)


STEPS = [
    "before the lines are written",
    "with half of the lines written",
    "before the ledger entry",
    "with half of the ledger entry",
    "before the final name",
    "before the verdict",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("taken", [False, True], ids=["files stay", "consumer takes files"])
@pytest.mark.parametrize("mixed", [False, True], ids=["same run", "other portions"])
def test_a_crash_at_any_step_neither_loses_nor_doubles(rig: FileRig, step: str, taken: bool, mixed: bool) -> None:
    consumed: list[dict[str, Any]] = []

    def consume() -> None:
        if taken:
            consumed.extend(rig.lines())
            for path in rig.directory.glob("*.jsonl"):
                path.unlink()

    run = [thing(n, f"T{n}", "x") for n in range(1, 9)]
    first = rig.make()
    first.write(run[:3])
    consume()
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, step)
        with pytest.raises(Crash):
            first.write(run[3:])
    first.close()  # the operating system closes the files of a dead process
    consume()
    second = rig.make()
    for part in (run[5:7], run[2:5], run) if mixed else (run[3:],):
        assert {v.outcome for v in second.write(part)} == {"done"}
    second.close()
    consume()
    found = sorted(line["sequence"] for line in [*consumed, *([] if taken else rig.lines())])
    assert found == list(range(1, 9))
    assert list((rig.directory / ".crossdock" / STATE).glob("*.tmp")) == []


def test_files_appear_whole_and_sort_in_the_order_of_their_runs(rig: FileRig) -> None:
    sink = rig.make()
    for n in range(1, 13):
        sink.write([thing(n, "T1")])
    sink.close()
    names = sorted(p.name for p in rig.directory.iterdir() if p.is_file())
    assert names == [f"finance-{n:012d}.jsonl" for n in range(1, 13)]
    assert [line["sequence"] for line in rig.lines()] == list(range(1, 13))


def test_a_line_carries_the_envelope_or_the_document_alone(tmp_path: Path) -> None:
    pretty = Outgoing(b"\x01" * 16, "Thing", "T1", b'{\r\n  "text": "a\\nb"\n}', 5, 1)
    for envelope, directory in ((True, "a"), (False, "b")):
        sink = build("file", {"directory": directory, "envelope": envelope, "name": "OUT_{number}.txt"}, tmp_path)
        sink.write([pretty])
        sink.close()
    (line,) = (tmp_path / "a" / "OUT_000000000001.txt").read_bytes().splitlines()
    assert json.loads(line) == {
        "event_id": "01" * 16, "document": "Thing", "key": "T1", "sequence": 5, "body": {"text": "a\nb"},
    }  # fmt: skip
    (bare,) = (tmp_path / "b" / "OUT_000000000001.txt").read_bytes().splitlines()
    assert json.loads(bare) == {"text": "a\nb"}


def test_an_event_twice_in_one_run_is_one_line(rig: FileRig) -> None:
    sink = rig.make()
    assert [v.outcome for v in sink.write([thing(1, "T1"), thing(1, "T1")])] == ["done", "done"]
    sink.close()
    assert len(rig.lines()) == 1


def test_a_lost_ledger_never_leads_to_a_name_used_twice(rig: FileRig) -> None:
    first = rig.make()
    first.write([thing(1, "T1")])
    first.close()
    (rig.directory / ".crossdock" / STATE / "ledger").unlink()
    second = rig.make()
    second.write([thing(2, "T2")])
    second.close()
    assert [line["sequence"] for line in rig.lines()] == [1, 2]


def test_two_writers_of_the_same_names_cannot_run_together(rig: FileRig) -> None:
    first, second = rig.make(), rig.make()
    first.write([thing(1, "T1")])
    with pytest.raises(SinkUnavailable, match="in use by another process"):
        second.write([thing(2, "T2")])
    first.close()
    assert [v.outcome for v in second.write([thing(2, "T2")])] == ["done"]
    second.close()


def test_a_full_disk_gives_no_verdict_and_loses_nothing(rig: FileRig, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = rig.make()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(SinkUnavailable, match="No space left"):
            sink.write([thing(1, "T1")])
    assert [v.outcome for v in sink.write([thing(1, "T1")])] == ["done"]
    sink.close()
    assert len(rig.lines()) == 1


def test_the_ledger_forgets_the_oldest_and_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ids = [n.to_bytes(16, "big") for n in range(5000)]
    ledger = Ledger(path, 1000)
    for start in range(0, 5000, 100):
        ledger.append(start // 100 + 1, ids[start : start + 100])
    ledger.close()
    again = Ledger(path, 1000)
    assert again.last == 50
    assert [i for i in ids if i in again] == ids[4000:]
    again.close()
    assert path.stat().st_size < 2200 * 16


def test_a_ledger_cut_at_any_byte_keeps_every_whole_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ids = [n.to_bytes(16, "big") for n in range(6)]
    ledger = Ledger(path, 100)
    ends = []
    for number in range(3):
        ledger.append(number + 1, ids[number * 2 : number * 2 + 2])
        ends.append(path.stat().st_size)
    ledger.close()
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        again = Ledger(path, 100)
        whole = sum(end <= cut for end in ends)
        assert again.last == whole
        assert [i for i in ids if i in again] == ids[: whole * 2]
        again.append(99, [b"z" * 16])
        again.close()
        third = Ledger(path, 100)
        assert third.last == 99
        assert b"z" * 16 in third
        third.close()


def test_a_flipped_bit_ends_the_ledger_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path, 100)
    ledger.append(1, [b"a" * 16])
    whole = path.stat().st_size
    ledger.append(2, [b"b" * 16])
    ledger.close()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [end for end, _, _ in file_ledger._entries(bytes(data))] == [whole]


@pytest.mark.parametrize(
    "name",
    [
        "out.jsonl",
        "../{number}",
        "a/{number}",
        "a\\{number}",
        ".{number}",
        "{number}{number}",
        "{date}-{number}",
        "a:{number}",
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="number"):
        FileSettings(directory="out", name=name)


def test_check_tells_of_a_sink_at_work_that_it_works(rig: FileRig) -> None:
    at_work, asked = rig.make(), rig.make()
    at_work.write([thing(1, "A")])
    assert "in use" in asked.check()
    asked.close()
    at_work.write([thing(2, "B")])
    at_work.close()
    assert [line["key"] for line in rig.lines()] == ["A", "B"]


def test_a_foreign_file_with_a_number_too_large_to_count_on_is_no_file_of_ours(rig: FileRig) -> None:
    rig.directory.mkdir()
    (rig.directory / f"finance-{'9' * 30}.jsonl").write_bytes(b"")
    sink = rig.make()
    assert [verdict.outcome for verdict in sink.write([thing(1, "A")])] == ["done"]
    sink.close()
