"""A growing file through what comes after the source: groups at the controller, pump and outbox, a real agent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.codec import open_sealed
from crossdock.siteconfig import SourceConfig
from crossdock_agent.sources.base import Draft
from crossdock_controller.outcomes import Outcomes
from support.agents import RunningAgent, helpers_in_process, site_config
from support.controller import FakeController
from support.log_site import LogSite
from support.mapping import all_dead, all_mapped, engine, run

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;NAME;SKU;QTY\n"
ORDERS: dict[str, Any] = {
    "mapping": "orders",
    "document": "SalesOrder",
    "each": "NO",
    "fields": {"number": "NO", "customer.name": "NAME", "lines": {"sku": "SKU", "quantity": "QTY"}},
}


def outcomes_of(drafts: list[Draft]) -> list[Outcomes]:
    return run(engine(CSV, ORDERS), [(draft.header, draft.payload, 0) for draft in drafts])


def orders_of(drafts: list[Draft]) -> dict[str, list[str]]:
    mapped = all_mapped(outcomes_of(drafts))
    return {m.key: [line["sku"] for line in msgspec.json.decode(m.body)["lines"]] for m in mapped}


def test_the_last_group_of_a_quiet_file_becomes_a_document_after_its_time_and_not_before(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, idle_closes_seconds=60)
    logs.path().write_bytes(HEADER + b"1;Acme;A;1\n2;Ever;B;1\n")
    logs.read(advance=10)
    assert orders_of(logs.seen) == {"1": ["A"]}
    with logs.path().open("ab") as file:
        file.write(b"2;Ever;C;1\n")
    logs.read(advance=20)
    assert orders_of(logs.seen) == {"1": ["A"]}
    logs.read(passes=4, advance=20)
    assert orders_of(logs.seen) == {"1": ["A"], "2": ["B", "C"]}


def test_a_group_over_a_restart_and_a_renaming_is_one_document(tmp_path: Path) -> None:
    logs = LogSite(tmp_path)
    logs.path().write_bytes(HEADER + b"1;Acme;A;1\n")
    logs.read()
    logs.restart()
    with logs.path().open("ab") as file:
        file.write(b"1;Acme;B;1\n")
    logs.rename()
    logs.path().write_bytes(HEADER + b"2;Ever;C;1\n")
    logs.read(passes=3)
    logs.rename("x.log.1", "x.log.2")
    logs.rename()
    logs.path().write_bytes(HEADER)
    logs.read(passes=3)
    assert orders_of(logs.seen) == {"1": ["A", "B"], "2": ["C"]}
    assert not all_dead(outcomes_of(logs.seen))


def test_what_was_never_seen_is_a_dead_letter(tmp_path: Path) -> None:
    logs = LogSite(tmp_path)
    logs.path().write_bytes(HEADER + b"1;Acme;A;1\n2;Ev")
    logs.read()
    logs.path().unlink()
    logs.read(passes=3)
    (dead,) = all_dead(outcomes_of(logs.seen))
    assert (dead.code, dead.locator.record, dead.locator.name) == ("gone", 1, "x.log")


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeController]:
    helpers_in_process(monkeypatch)
    fake = FakeController().start()
    yield fake
    fake.stop()


def received(controller: FakeController) -> list[bytes]:
    batches = [batch for kept in controller.stored.values() for batch in kept]
    return [line for batch in batches for line in open_sealed(batch.sealed)[1].splitlines()]


def test_a_running_agent_follows_a_log_through_rotation_and_restart(controller: FakeController, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    settings = {
        "directory": str(tmp_path), "pattern": "x.log", "format": {"kind": "jsonl"}, "poll_seconds": 0.1,
        "rotated_seconds": 0.2,
    }  # fmt: skip
    state = tmp_path / "state"
    controller.identity(state)
    controller.offer(site_config(1, SourceConfig(name="wms", kind="file_tail", settings=settings)), 1)
    written: list[bytes] = []

    def write(n: int) -> None:
        new = [b'{"no": %d, "text": "%s"}' % (len(written) + i, b"x" * 50) for i in range(n)]
        written.extend(new)
        with log.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in new))

    with RunningAgent(state):
        write(3)
        controller.wait(lambda: received(controller) == written, "the first lines arrived")
        write(2)
        log.rename(tmp_path / "x.log.1")
        write(2000)
        controller.wait(lambda: received(controller) == written, "those of both files arrived, in order")
    write(1)
    (tmp_path / "x.log.1").rename(tmp_path / "x.log.2")
    (tmp_path / "x.log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    write(4)
    with RunningAgent(state):
        controller.wait(lambda: len(received(controller)) >= len(written), "what was written meanwhile arrived")
        write(1)
        controller.wait(lambda: received(controller) == written, "and what came then")
