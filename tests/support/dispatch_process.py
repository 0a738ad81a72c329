"""A dispatcher process to be killed: its sink appends "event id, key" to a file, a few milliseconds a delivery.

Arguments: data directory, file to append to, seconds a delivery takes, and the share of deliveries that fail at random.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossdock.lifecycle import Stop, stop_on_signals
from crossdock_controller.dispatch import Dispatcher, SinkDef
from crossdock_controller.paths import DataDirectory
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, Verdict


class FileSink:
    def __init__(self, path: Path, seconds: float, failing: float = 0.0) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._seconds, self._failing = seconds, failing
        self._rng = random.Random()

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        verdicts: list[Verdict] = []
        stopped: set[str] = set()
        for delivery in run:
            if delivery.key in stopped:
                verdicts.append(Verdict("retry", "held"))
            elif self._rng.random() < self._failing:
                stopped.add(delivery.key)
                verdicts.append(Verdict("retry", "http_500", "it fails at random"))
            else:
                verdicts.append(DONE)
                self._apply(delivery)
        return verdicts

    def _apply(self, delivery: Outgoing) -> None:
        if self._seconds:
            time.sleep(self._seconds)
        self._file.write(f"{delivery.event_id.hex()} {delivery.key} {delivery.attempt}\n")
        self._file.flush()

    def check(self) -> str:
        return str(self._file.name)

    def close(self) -> None:
        self._file.close()


class Definition:
    kind = "file"
    retry_hours = 48.0
    retry_attempts: int | None = None
    rate: float | None = None
    supersede: Sequence[str] = ()
    ttl_hours: Mapping[str, float] = {}
    versions: Mapping[str, int] = {}

    def typed(self) -> None:
        return None


class Runtime:
    number = 1

    def __init__(self, *sinks: str) -> None:
        self.sinks: Mapping[str, SinkDef] = {name: Definition() for name in sinks}


def main() -> None:
    data, path, seconds = DataDirectory(Path(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3])
    failing = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    size = 200 if failing else 20
    runtime = Runtime("finance")

    def open_sink(_name: str, _definition: SinkDef) -> tuple[Sink, int]:
        return FileSink(path, seconds, failing), size

    stop = Stop()
    stop_on_signals(stop)
    dispatcher = Dispatcher(data, lambda _tree, _number: runtime, open_sink)
    dispatcher.run(stop)
    dispatcher.close()


if __name__ == "__main__":
    main()
