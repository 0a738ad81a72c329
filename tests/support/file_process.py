"""A process that takes files with a real pump and outbox, notes what it was given, and acknowledges it: to be killed.

`python -m support.file_process STATE DIRECTORY LOG`: each batch becomes a line of LOG before it is acknowledged: unit
in hex, ordinal of the first record, payload in hex, and a full stop: a line without one was torn by the kill.
"""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

from crossdock.codec import open_sealed
from crossdock.siteconfig import OutboxConfig, SourceConfig
from crossdock_agent.outbox import Outbox
from crossdock_agent.pump import Pump
from crossdock_agent.pumps import build_source


def main(state: Path, directory: Path, log: Path) -> None:
    settings = {
        "directory": str(directory), "pattern": "*.*", "settle_seconds": 0, "poll_seconds": 0.05, "unpack": "suffix",
        "marker": "{name}-ok", "afterwards": "archive", "format": {"kind": "csv", "delimiter": ";"},
    }  # fmt: skip
    config = SourceConfig(name="drop", kind="file_drop", lane="standard", settings=settings)
    committed = threading.Event()
    with (
        Outbox(state / "outbox.db", OutboxConfig(min_free_disk_bytes=0)) as outbox,
        log.open("ab", buffering=0) as file,
    ):
        outbox.subscribe(committed.set)
        pump = Pump(config, 1, outbox, str, build_source, random.Random(1))
        pump.start()
        at = outbox.positions().get("drop")
        sequence = at.acked_sequence if at else 0
        while committed.wait():
            committed.clear()
            for batch in outbox.page("drop", sequence, 1024 * 1024):
                header, payload = open_sealed(batch.sealed)
                first = header.origin.first_record
                file.write(b"\n%s %d %s .\n" % (header.origin.unit.hex().encode(), first, payload.hex().encode()))
                sequence = batch.sequence
                outbox.acknowledge("drop", outbox.epoch, sequence)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
