"""A process that delivers what it is told on stdin, forever, one line of output a run: to be killed while it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from crossdock_controller.sinks.base import Outgoing, SinkContext, kinds


def main() -> None:
    order = json.load(sys.stdin)
    kind = kinds()[order["kind"]]
    context = SinkContext("finance", lambda text: order["secrets"].get(text, text), str(Path(order["base"])))
    sink = kind.create(kind.settings.model_validate(order["settings"]), context)
    run = [Outgoing(s.to_bytes(16, "big"), "Thing", key, body.encode(), s, 1) for s, key, body in order["run"]]
    while True:
        for start in range(0, len(run), 50):
            assert all(verdict.outcome == "done" for verdict in sink.write(run[start : start + 50]))
            sys.stdout.write("written\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
