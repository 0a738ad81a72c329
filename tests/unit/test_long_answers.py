"""A long answer travels in parts, and heartbeats go in between."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from crossdock.sitecommands import OUTPUT_BYTES, PART_BYTES
from crossdock.v1.link_pb2 import CommandResult, Heartbeat, Hello, Report
from crossdock_agent.control import Control, _Talk
from crossdock_agent.remote.journal import Entry
from crossdock_agent.remote.worker import _parts

ENTRY = Entry(id="one", name="logs", by="me", begun_us=1, expires_us=2, process="p", ended_us=3, ok=True)


def talk(heartbeat_seconds: float) -> _Talk:
    control: Any = SimpleNamespace(
        heartbeat_seconds=heartbeat_seconds, hello=Hello, heartbeat=Heartbeat,
        renewal=SimpleNamespace(request=lambda: None),
    )  # fmt: skip
    return _Talk(cast(Control, control))


def test_an_answer_is_cut_into_parts_that_make_it_whole_again() -> None:
    for size in (0, 1, PART_BYTES, PART_BYTES + 1, OUTPUT_BYTES):
        output = bytes(size)
        results = [report.command_result for report in _parts(ENTRY, output)]
        assert b"".join(result.output for result in results) == output
        assert [result.part for result in results] == list(range(len(results)))
        assert [result.more for result in results] == [True] * (len(results) - 1) + [False]
        assert (results[-1].ok, [result.ok for result in results[:-1]]) == (True, [False] * (len(results) - 1))
        assert max(report.ByteSize() for report in _parts(ENTRY, output)) < PART_BYTES + 1000


def test_a_heartbeat_that_is_due_does_not_wait_for_the_end_of_a_long_answer() -> None:
    session = talk(heartbeat_seconds=0.0)  # always due
    session.send(_parts(ENTRY, bytes(5 * PART_BYTES)))
    kinds = []
    for report in session.requests():
        kinds.append(report.WhichOneof("kind"))
        if kinds.count("command_result") == 5:
            break
    assert kinds[0] == "hello"
    assert all(kinds[i + 1] == "heartbeat" for i, kind in enumerate(kinds[:-1]) if kind == "command_result")


def test_heartbeats_come_when_they_are_due_and_not_with_each_message() -> None:
    session = talk(heartbeat_seconds=3600.0)
    session.send([Report(command_result=CommandResult(id=str(n))) for n in range(10)])
    session.end()
    assert [report.WhichOneof("kind") for report in session.requests()] == ["hello"]  # ended: nothing is said any more
    session = talk(heartbeat_seconds=3600.0)
    session.send([Report(command_result=CommandResult(id=str(n))) for n in range(10)])
    reports = session.requests()
    assert [next(reports).WhichOneof("kind") for _ in range(11)] == ["hello"] + ["command_result"] * 10


def test_an_answer_is_made_as_it_is_sent_and_not_before() -> None:
    made: list[int] = []

    def slowly() -> Iterator[Report]:
        for part in range(100):
            made.append(part)
            yield Report(command_result=CommandResult(id="x", part=part))

    session = talk(heartbeat_seconds=3600.0)
    session.send(slowly())
    reports = session.requests()
    for _ in range(4):
        next(reports)
    assert len(made) == 3
    session.end()
    assert list(reports) == []
    assert made == [0, 1, 2]
