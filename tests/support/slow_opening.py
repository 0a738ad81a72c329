"""The agent's command line, whose outbox migration takes until the file named by SLOW_UNTIL is there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from crossdock_agent import helper
from crossdock_agent.cli import main

_migrate = helper.migrate


def slow(path: Path) -> None:
    until = Path(os.environ["SLOW_UNTIL"])
    until.with_name("migrating").touch()
    while not until.exists():
        time.sleep(0.05)
    _migrate(path)


if __name__ == "__main__":
    helper.migrate = slow
    sys.argv[0] = "crossdock-agent"
    main()
