"""The agent's command line with a source kind that brings the whole process down: a driver with a bug."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from loguru import logger

from crossdock.errors import ConfigError
from crossdock_agent.cli import main
from crossdock_agent.sources import base


class Crash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    how: Literal["segv", "kill", "none", "wrong later"]
    file: str = ""
    secret: str = "none"


class CrashSource:
    def __init__(self, settings: Crash, context: base.SourceContext) -> None:
        self._settings = settings
        self._context = context
        self._passes = 0

    def read(self, _checkpoint: bytes | None) -> Iterator[base.Draft]:
        self._passes += 1
        if self._settings.how in {"segv", "kill"}:
            password = self._context.secret(self._settings.secret)
            logger.bind(source=self._context.name).info("the driver is loaded with {}", password)
        if self._settings.how == "segv":
            faulthandler._sigsegv()  # type: ignore[attr-defined]
        if self._settings.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._settings.how == "wrong later" and self._passes > 3:
            raise ConfigError("column SHIP_TS is not there", hint="see the table")
        yield from ()

    def release(self, token: bytes) -> None: ...

    def check(self) -> Iterator[base.Finding]:
        yield base.Finding("driver", True, "it loads")

    def watch(self) -> list[Path]:
        return []

    def poll_seconds(self) -> float:
        return 0.1

    def close(self) -> None: ...


if __name__ == "__main__":
    base.register("crash", Crash, CrashSource)
    sys.argv[0] = "crossdock-agent"
    main()
