"""What each command does here. Arguments were checked; a source is looked up by its name among those there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import msgspec

from crossdock import keptlog
from crossdock.errors import CrossdockError
from crossdock.lifecycle import Stop
from crossdock.redaction import KNOWN
from crossdock.secrets import Secrets
from crossdock.sitecommands import KINDS
from crossdock_agent import policy
from crossdock_agent.pumps import Pumps
from crossdock_agent.remote import bundle, children
from crossdock_agent.settings import Settings

LOGS_BYTES = 4 * 1024 * 1024
LOGS_SECONDS = 3600
TRY_SECONDS = 60.0


class Restarting(Exception):  # noqa: N818 - not an error: the answer is given by the life that comes next
    """The agent ends its parts now and begins anew."""


@dataclass(frozen=True, slots=True)
class Answer:
    """*text* for a person, *value* for a program (what JSON can hold); or a *file*."""

    text: list[str]
    value: Any = None
    file: bytes | None = None

    def encoded(self) -> bytes:
        """As it travels, without secrets."""
        if self.file is not None:
            return self.file
        return msgspec.json.encode(
            {"text": [KNOWN.clean(line) for line in self.text], "value": KNOWN.structure(self.value)}
        )


class Deeds:
    """*restart* asks the composition root for a new life; *outbox* says how full the outbox is; *freshen* writes the
    status file anew."""

    def __init__(
        self,
        settings: Settings,
        pumps: Pumps,
        restart: Callable[[], None],
        outbox: Callable[[], dict[str, Any]],
        freshen: Callable[[], None],
    ) -> None:
        self._freshen = freshen
        self._settings = settings
        self._pumps = pumps
        self._restart = restart
        self._outbox = outbox
        self._names: dict[str, Callable[[Mapping[str, str], str, Stop], Answer]] = {
            "check": self._check,
            "try": self._try,
            "rescan": self._rescan,
            "logs": self._logs,
            "restart": self._begin_anew,
            "pause": self._pause,
            "resume": self._resume,
            "support-bundle": self._bundle,
        }

    def do(self, name: str, arguments: Mapping[str, str], by: str, stop: Stop) -> Answer:
        """Raises CrossdockError with what a person is told, Restarting."""
        Secrets(self._settings.directory).know_all()
        return self._names[name](arguments, by, stop)

    def _check(self, _arguments: Mapping[str, str], _by: str, stop: Stop) -> Answer:
        self._freshen()
        return self._asked(["check", *self._values()], KINDS["check"].seconds, stop)

    def _try(self, arguments: Mapping[str, str], _by: str, stop: Stop) -> Answer:
        self._named(arguments)
        words = ["try", arguments["source"], "--records", arguments.get("records", "10"), "--seconds", f"{TRY_SECONDS}"]
        return self._asked([*words, *self._values()], KINDS["try"].seconds, stop)

    def _values(self) -> list[str]:
        """Whether the values of records may be shown, as an option."""
        return ["--values"] if policy.read(self._settings.policy_path).payloads else []

    def _asked(self, words: list[str], seconds: float, stop: Stop) -> Answer:
        found = msgspec.json.decode(children.answer(self._settings.directory, words, seconds, stop))
        return Answer(list(found["text"]), found["value"])

    def _rescan(self, arguments: Mapping[str, str], _by: str, _stop: Stop) -> Answer:
        allowed = policy.read(self._settings.policy_path)
        names = (
            [self._named(arguments)] if "source" in arguments else [n for n in self._pumps.names if allowed.covers(n)]
        )
        held = {name: self._pumps.rescan(name) for name in names}
        text = [f"{name}: " + (f"not yet, {why}" if why else "looks now") for name, why in held.items()]
        left = len(self._pumps.names) - len(names) if "source" not in arguments else 0
        text += [f"{left} source(s) left out by the site's policy"] if left else []
        return Answer(text or ["there is no source here"], {"sources": held})

    def _logs(self, arguments: Mapping[str, str], _by: str, _stop: Stop) -> Answer:
        seconds = int(arguments.get("since_seconds", LOGS_SECONDS))
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        path = self._settings.own_log_path
        if path is None:
            raise CrossdockError("this agent keeps no log of its own", hint="own_log_mb in agent.toml is 0 there")
        lines, left_out = keptlog.chosen(
            keptlog.read(path), since, arguments.get("level", "DEBUG"), arguments.get("grep", ""), LOGS_BYTES
        )
        note = (
            [f"({left_out} older entries left out: ask for less with --since, --level or --grep)"] if left_out else []
        )
        told = [part for line in lines for part in line.split("\n")]
        return Answer([*note, *told] or ["no line in that time"], {"lines": len(told), "left_out": left_out})

    def _begin_anew(self, _arguments: Mapping[str, str], _by: str, _stop: Stop) -> NoReturn:
        self._restart()
        raise Restarting

    def _pause(self, arguments: Mapping[str, str], by: str, _stop: Stop) -> Answer:
        name, now_us = self._named(arguments), time.time_ns() // 1000
        try:
            found = self._pumps.pause(name, by, now_us)
        except OSError as error:
            raise CrossdockError(f"the pause could not be written down, so {name} reads on: {error}") from error
        already = found.since_us != now_us
        text = f"{name} is paused" + (f" already, by {found.by}" if already else "; its data waits at the source")
        return Answer([text], {"source": name, "since_us": found.since_us, "by": found.by, "already": already})

    def _resume(self, arguments: Mapping[str, str], _by: str, _stop: Stop) -> Answer:
        name = arguments["source"]
        try:
            found = self._pumps.resume_source(name)
        except OSError as error:
            raise CrossdockError(f"it could not be written down, so {name} stays paused: {error}") from error
        if found is None:
            self._named(arguments)
            return Answer([f"{name} was not paused"], {"source": name, "was_paused": False})
        here = "" if name in self._pumps.names else "; it is not in the configuration of this site now"
        value = {"source": name, "was_paused": True, "since_us": found.since_us, "by": found.by}
        return Answer([f"{name} goes on{here}"], value)

    def _bundle(self, _arguments: Mapping[str, str], _by: str, stop: Stop) -> Answer:
        self._freshen()
        return Answer([], None, bundle.made(self._settings, self._outbox(), stop))

    def _named(self, arguments: Mapping[str, str]) -> str:
        """The source meant. Raises CrossdockError when there is none of that name."""
        name, known = arguments["source"], self._pumps.names
        if name not in known:
            raise CrossdockError(f"there is no source {name!r} here", hint=f"it has {', '.join(known) or 'none'}")
        return name
