"""What each command does here. Arguments were checked; a source is looked up by its name among those there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from crossdock.errors import CrossdockError
from crossdock.keptlog import ORDER
from crossdock.lifecycle import Stop
from crossdock.redaction import KNOWN
from crossdock.secrets import Secrets
from crossdock.sitecommands import KINDS
from crossdock_agent import policy
from crossdock_agent.answers import Answer, Question
from crossdock_agent.logring import LogRing
from crossdock_agent.pumps import Pumps
from crossdock_agent.remote import children
from crossdock_agent.settings import Settings

LOGS_SECONDS = 3600


class Restarting(Exception):  # noqa: N818 - not an error: the answer is given by the life that comes next
    """The agent ends its parts now and begins anew."""


class Deeds:
    """*restart* asks the composition root for a new life; *freshen* writes the status file anew."""

    def __init__(
        self,
        settings: Settings,
        pumps: Pumps,
        restart: Callable[[], None],
        freshen: Callable[[], None],
        ring: LogRing,
    ) -> None:
        self._freshen = freshen
        self._ring = ring
        self._settings = settings
        self._pumps = pumps
        self._restart = restart
        self._here: dict[str, Callable[[Mapping[str, str], str], Answer]] = {
            "rescan": self._rescan,
            "restart": self._begin_anew,
            "pause": self._pause,
            "resume": self._resume,
        }  # others are for a process of their own

    def do(self, name: str, arguments: Mapping[str, str], by: str, stop: Stop) -> Answer:
        """Raises CrossdockError with what a person is told, Restarting."""
        Secrets(self._settings.directory).know_all()  # for what is said of a failure
        here = self._here.get(name)
        if here is not None:
            return here(arguments, by)
        if name == "logs" and self._settings.own_log_path is None:
            return _of_ring(self._ring, arguments)
        self._freshen()
        if "source" in arguments:
            self._named(arguments)
        values = policy.read(self._settings.policy_path).payloads
        question = Question(self._settings, name, dict(arguments), values, KNOWN.known())
        return Answer([], data=children.answer(question, KINDS[name].seconds, stop))

    def _rescan(self, arguments: Mapping[str, str], _by: str) -> Answer:
        allowed = policy.read(self._settings.policy_path)
        names = (
            [self._named(arguments)] if "source" in arguments else [n for n in self._pumps.names if allowed.covers(n)]
        )
        held = {name: self._pumps.rescan(name) for name in names}
        text = [f"{name}: " + (f"not yet, {why}" if why else "looks now") for name, why in held.items()]
        left = len(self._pumps.names) - len(names) if "source" not in arguments else 0
        text += [f"{left} source(s) left out by the site's policy"] if left else []
        return Answer(text or ["there is no source here"], {"sources": held})

    def _begin_anew(self, _arguments: Mapping[str, str], _by: str) -> NoReturn:
        self._restart()
        raise Restarting

    def _pause(self, arguments: Mapping[str, str], by: str) -> Answer:
        name, now_us = self._named(arguments), time.time_ns() // 1000
        try:
            found = self._pumps.pause(name, by, now_us)
        except OSError as error:
            raise CrossdockError(f"the pause could not be written down, so {name} reads on: {error}") from error
        already = found.since_us != now_us
        text = f"{name} is paused" + (f" already, by {found.by}" if already else "; its data waits at the source")
        return Answer([text], {"source": name, "since_us": found.since_us, "by": found.by, "already": already})

    def _resume(self, arguments: Mapping[str, str], _by: str) -> Answer:
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

    def _named(self, arguments: Mapping[str, str]) -> str:
        """The source meant. Raises CrossdockError when there is none of that name."""
        name, known = arguments["source"], self._pumps.names
        if name not in known:
            raise CrossdockError(f"there is no source {name!r} here", hint=f"it has {', '.join(known) or 'none'}")
        return name


def _of_ring(ring: LogRing, arguments: Mapping[str, str]) -> Answer:
    """The last lines in memory, of an agent that keeps no file."""
    since_us = time.time_ns() // 1000 - int(arguments.get("since_seconds", LOGS_SECONDS)) * 1_000_000
    least, wanted = ORDER[arguments.get("level", "DEBUG")], arguments.get("grep", "").casefold()
    lines = [
        line.text
        for line in ring.since(since_us)
        if ORDER.get(line.level, 0) >= least and wanted in line.text.casefold()
    ]
    note = "(this agent keeps no log file, own_log_mb is 0: these are the last lines in its memory)"
    return Answer([note, *lines], {"lines": len(lines), "left_out": 0})
