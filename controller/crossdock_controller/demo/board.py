"""The live picture of the demo: what the business made, where it is now, and what each system got."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from crossdock_controller.cli import words
from crossdock_controller.cli.screen import number, state, table
from crossdock_controller.commands import top
from crossdock_controller.demo.business import Ledger
from crossdock_controller.demo.plant import Plant

_SAMPLE_SECONDS = 0.4


class Board:
    """Looks at the store and at the agents' status files; both work while the controller is down."""

    def __init__(self, plant: Plant, ledger: Ledger) -> None:
        self._plant = plant
        self._ledger = ledger
        self._before = top.sample(plant.data, _now_us())
        self._sampled_at = time.monotonic()
        self.delivered: Counter[str] = Counter()

    def look(self) -> None:
        """Take a new sample when the last one is not fresh any more."""
        if time.monotonic() - self._sampled_at >= _SAMPLE_SECONDS:
            self._before = top.sample(self._plant.data, _now_us(), self._before)
            self._sampled_at = time.monotonic()
            self.delivered.update(self._before.done)

    def picture(self) -> RenderableType:
        self.look()
        grid = table("source", "site", ">made", ">outbox", ">received", ">normalized")
        outboxes = self.outboxes()
        for (site, source), made in sorted(self._ledger.records.items(), key=lambda item: (item[0][1], item[0][0])):
            key = (site, source)
            grid.add_row(
                source, site, number(made), number(outboxes.get(key, 0), "yellow"),
                number(self._before.received.get(key, 0)), number(self._before.normalized.get(key, 0)),
            )  # fmt: skip
        return Group(self._head(), grid, self._sinks())

    def line(self) -> str:
        """The same in one line, for where there is no terminal."""
        self.look()
        delivered = (
            " · ".join(f"{sink} {words.count(n)}" for sink, n in sorted(self.delivered.items())) or "nothing yet"
        )
        waiting = words.count(sum(self.outboxes().values()))
        received = words.count(sum(self._before.received.values()))
        made = words.count(self._ledger.total)
        return f"made {made} · in outboxes {waiting} · received {received} · delivered: {delivered}"

    def outboxes(self) -> dict[tuple[str, str], int]:
        """Records read and not acknowledged, by (site, source), as each agent last wrote beside its outbox."""
        found = {}
        for site in self._plant.agents:
            for source in _status_of(self._plant.state_of(site)).get("sources", []):
                found[site, source["source"]] = source["pending_records"]
        return found

    def _head(self) -> Text:
        made = words.plural(self._ledger.total, "record")
        files = words.plural(self._ledger.files, "file")
        controller = "up" if self._plant.controller.alive() else "down"
        return Text.assemble("  controller ", state(controller), f" · made so far: {made}, {files}")

    def _sinks(self) -> Text:
        parts: list[Text | str | tuple[str, str]] = ["  delivered: "]
        for i, sink in enumerate(self._before.sinks):
            parts += [" · " if i else "", (sink.sink, "bold"), f" {words.count(self.delivered[sink.sink])}"]
            waiting = sink.pending + sink.retrying + sink.held
            if waiting:
                parts.append((f" (+{words.count(waiting)} due)", "yellow"))
        return Text.assemble(*parts)


def _status_of(state_directory: Path) -> dict[str, Any]:
    """What `crossdock-agent status --json` shows, read where the agent writes it; empty until it first did."""
    try:
        found: dict[str, Any] = json.loads((state_directory / "status.json").read_text("utf-8"))
    except (OSError, ValueError):  # not there yet, or being replaced
        return {}
    return found


def _now_us() -> int:
    return time.time_ns() // 1000
