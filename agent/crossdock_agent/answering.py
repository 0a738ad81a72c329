"""What a process of its own says to the running agent when the centre asks: the same as the commands of a person here.

What is heavy (a trial, a log of megabytes, a zip) is gone from memory when the process ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from crossdock import keptlog
from crossdock.errors import CrossdockError
from crossdock.redaction import KNOWN
from crossdock.secrets import Secrets
from crossdock_agent import bundle, looking, plain
from crossdock_agent import check as checking
from crossdock_agent.answers import Answer, Question
from crossdock_agent.findings import said, without_sample
from crossdock_agent.settings import Settings

LOGS_BYTES = 4 * 1024 * 1024
LOGS_SECONDS = 3600
TRY_SECONDS = 60.0
LINE = 2000  # characters of one that is shown


def answer(question: bytes) -> bytes:
    """The answer to a `Question`, without secrets. Raises CrossdockError with what a person is told."""
    asked = msgspec.json.decode(question, type=Question)
    for secret in asked.secrets:
        KNOWN.learn(secret)
    Secrets(asked.settings.directory).know_all()
    return _ANSWERS[asked.name](asked.settings, asked).encoded()


def end_with_the_asker(pipe: int) -> None:
    """Whoever asked holds the other end of *pipe* until it has the answer: when it dies, however, so do we.

    By its number: Python would wait for a file object that a thread is reading from before it ends.
    """

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(1)

    threading.Thread(target=watch, name="leash", daemon=True).start()


def _check(settings: Settings, asked: Question) -> Answer:
    found = list(checking.check(settings))
    if not asked.values:
        found = [without_sample(finding) for finding in found]
    return Answer([line for finding in found for line in said(finding)], msgspec.to_builtins(found))


def _try(settings: Settings, asked: Question) -> Answer:
    records = int(asked.arguments.get("records", "10"))
    source = asked.arguments["source"]
    text, value = looking.answer(settings, source, records=records, seconds=TRY_SECONDS, values=asked.values)
    return Answer([plain.shown(line, LINE) for line in text], value)


def _logs(settings: Settings, asked: Question) -> Answer:
    path = settings.own_log_path
    if path is None:  # the agent itself answers from memory
        raise CrossdockError("this agent keeps no log of its own", hint="own_log_mb in agent.toml is 0 there")
    since = datetime.now(UTC) - timedelta(seconds=int(asked.arguments.get("since_seconds", LOGS_SECONDS)))
    level, grep = asked.arguments.get("level", "DEBUG"), asked.arguments.get("grep", "")
    entries, left_out = keptlog.chosen(keptlog.read(path), since, level, grep, LOGS_BYTES)
    lines = [line for entry in entries for line in entry.split("\n")]
    note = f"({left_out} older entries left out: ask for less with --since, --level or --grep)"
    text = [note, *lines] if left_out else lines
    return Answer(text or ["no line in that time"], {"lines": len(lines), "left_out": left_out})


def _bundle(settings: Settings, _asked: Question) -> Answer:
    return Answer([], data=bundle.made(settings))


_ANSWERS: dict[str, Callable[[Settings, Question], Answer]] = {
    "check": _check,
    "try": _try,
    "logs": _logs,
    "support-bundle": _bundle,
}
