"""The commands that the centre may give a site: their names, arguments and limits, checked alike at both ends.

An argument is text that matches its pattern whole. None is a path, a file name or an expression: a source is named, and
is looked up among those the site has; text to look for in a log is compared, never compiled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

OUTPUT_BYTES = 16 * 1024 * 1024  # of one answer; an agent gives no more and a controller takes no more
PART_BYTES = 256 * 1024  # of one message: heartbeats go in between
UNANSWERED_PER_AGENT = 20
LONGEST_SECONDS = 7 * 24 * 3600  # that a command may wait for its agent
ID = re.compile(r"[0-9a-z]{8,40}")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_SOURCE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_TEXT = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}"


@dataclass(frozen=True, slots=True)
class Kind:
    """*arguments* and *optional*: name to pattern. *many*: harmless for a whole fleet at once. *seconds*: as long
    as the agent gives it."""

    name: str
    help: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    many: bool = True
    seconds: float = 30.0


KINDS = {
    kind.name: kind
    for kind in (
        Kind("check", "What 'crossdock-agent check' says there.", seconds=150.0),
        Kind(
            "try", "The first records of a source, without a trace.", {"source": _SOURCE},
            {"records": r"[1-9][0-9]{0,2}"}, seconds=90.0,
        ),
        Kind("rescan", "Look for new data now, in one source or all.", optional={"source": _SOURCE}),
        Kind(
            "logs", "Lines of the agent's log.",
            optional={"since_seconds": r"[1-9][0-9]{0,7}", "level": "|".join(LEVELS), "grep": _TEXT},
        ),
        Kind("restart", "End all parts in order and begin anew.", many=False, seconds=60.0),
        Kind("pause", "Stop reading a source; its data waits there.", {"source": _SOURCE}, many=False),
        Kind("resume", "Go on reading a paused source.", {"source": _SOURCE}, many=False),
        Kind("support-bundle", "What someone far away needs to see, as a zip without secrets.", seconds=240.0),
    )
}  # fmt: skip


def fault_of(name: str, arguments: Mapping[str, str]) -> str:
    """What is wrong with a command, in a sentence; "" when nothing is."""
    kind = KINDS.get(name)
    if kind is None:
        return f"there is no command {name[:50]!r}: it is one of {', '.join(KINDS)}"
    known = {**kind.optional, **kind.arguments}
    for key in arguments:
        if key not in known:
            return f"{name} takes no {key[:50]!r}"
    for key, pattern in known.items():
        if key not in arguments:
            if key in kind.arguments:
                return f"{name} needs {key!r}"
        elif not re.fullmatch(pattern, arguments[key]):
            return f"{name}: {key} {arguments[key][:100]!r} is not valid"
    return ""
