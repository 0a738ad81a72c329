"""Logging for both sides: loguru, one line an event, stdlib loggers joined in. Never payloads, never secrets: what a
line says goes through `redaction` before any sink sees it, its fields and its traceback too.

What others said (a name, a host, a reason) stays within its line: a line break in it, or a character that a terminal
would obey, is written as Python writes it.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import cast

from loguru import logger

from crossdock.keptlog import KeptLog
from crossdock.redaction import KNOWN

_TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[side]} {message} {extra[fields]}"
_COMMANDS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: repr(chr(code))[1:-1] for code in _COMMANDS if code != 0x09}
_OWN_KEYS = {"side", "fields"}


class _Intercept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in logger._core.levels else record.levelno  # type: ignore[attr-defined]
        logger.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def _render_fields(record: dict[str, object]) -> None:
    extra = record["extra"]
    assert isinstance(extra, dict)  # noqa: S101 - loguru's own type
    for key, value in extra.items():
        if not isinstance(value, int | float | None):
            said = str(value)
            extra[key] = value if (safe := KNOWN.clean(said)) == said else safe
    fields = " ".join(f"{k}={v}" for k, v in extra.items() if k not in _OWN_KEYS)
    extra["fields"] = KNOWN.clean(fields).translate(_ESCAPED)
    record["message"] = KNOWN.clean(str(record["message"])).translate(_ESCAPED)
    if record["exception"] is not None:
        _guard_traceback(record)


def _guard_traceback(record: dict[str, object]) -> None:
    """A traceback that shows a secret becomes a part of the message, without it."""
    error = cast("tuple[object, BaseException | None, object]", record["exception"])[1]
    said = "".join(traceback.format_exception(error)) if error is not None else ""
    safe = KNOWN.clean(said)
    if safe != said:
        record["message"] = f"{record['message']}\n{safe.rstrip()}"
        record["exception"] = None


def configure(
    side: str, *, level: str = "INFO", file: Path | None = None, as_json: bool = False, kept: KeptLog | None = None
) -> None:
    """Log to stderr, to *file* (rotated at 20 MB, 5 kept), and as text to *kept*. `diagnose` stays off: it prints local
    variables."""
    logger.remove()
    logger.configure(extra={"side": side, "fields": ""}, patcher=_render_fields)  # type: ignore[arg-type]
    if sys.stderr is not None:  # a Windows service has none
        logger.add(sys.stderr, level=level, format=_TEXT, diagnose=False, backtrace=False, serialize=as_json)
    if file is not None:
        logger.add(
            file, level=level, format=_TEXT, diagnose=False, backtrace=False, serialize=as_json,
            rotation="20 MB", retention=5, encoding="utf-8",
        )  # fmt: skip
    if kept is not None:
        logger.add(kept, level=level, format=_TEXT, diagnose=False, backtrace=False, colorize=False)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)
