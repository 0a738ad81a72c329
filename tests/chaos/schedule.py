"""What goes wrong, when, to whom: all of it from the seed, before anything starts, so that a seed replays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

AGENTS = ("atl1", "rtm1")
CHANGES = ("poll", "batch", "source", "route")  # of the configuration, see `tree.Tree`
WORKERS = ("normalize", "dispatch")
PROCESSES = (*(f"agent-{site}" for site in AGENTS), "controller", *WORKERS)


@dataclass(frozen=True, slots=True)
class Fault:
    """*at* and *seconds* (how long it holds) in seconds since the faults begin; *value* is what the kind says it is."""

    number: int
    at: float
    kind: str
    target: str
    seconds: float = 0.0
    value: float = 0.0
    word: str = ""

    def __str__(self) -> str:
        more = "".join(f" {x}" for x in (self.word, f"{self.value:g}" if self.value else "") if x)
        held = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:7.2f} {self.kind} {self.target}{more}{held}"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Kind:
    """*weight*: how often; *draw*: target, seconds, value and word of one fault of the kind."""

    name: str
    weight: float
    title: str
    draw: Callable[[random.Random], tuple[str, float, float, str]]


def _kill(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(PROCESSES), rng.choice((0.0, 0.0, rng.uniform(0.5, 4))), 0, ""


def _freeze(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(PROCESSES), rng.uniform(0.5, 6), 0, ""


def _link(shortest: float, longest: float) -> Callable[[random.Random], tuple[str, float, float, str]]:
    return lambda rng: (rng.choice(AGENTS), rng.uniform(shortest, longest), 0, "")


def _half_open(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(AGENTS), rng.uniform(0.5, 6), 0, rng.choice(("up", "down"))


def _limited(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(AGENTS), rng.uniform(1, 6), float(rng.randrange(500, 30_000)), ""


def _slow(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(AGENTS), rng.uniform(1, 6), float(rng.choice((2_000, 10_000, 50_000))), ""


def _web(rng: random.Random) -> tuple[str, float, float, str]:
    return "web", rng.uniform(1, 6), 0, rng.choice(("500", "429", "hang", "close", "slow", "refused"))


def _locked(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(("rows", "latest")), rng.uniform(1, 8), 0, ""


def _push(rng: random.Random) -> tuple[str, float, float, str]:
    return "tree", rng.uniform(3, 8), 0, rng.choice(CHANGES)


def _disk(rng: random.Random) -> tuple[str, float, float, str]:
    target = rng.choice((*(f"agent-{site}" for site in AGENTS), "intake.db", "state.db", "/files/"))
    return target, rng.uniform(0.5, 6), 0, rng.choice(("ENOSPC", "EIO"))


def _clock(rng: random.Random) -> tuple[str, float, float, str]:
    hours = rng.choice((-1, 1)) * rng.choice((1.0, 3.0, 12.0, 20.0))  # 20: an agent takes its certificate for old
    return rng.choice((*(f"agent-{site}" for site in AGENTS), "controller")), rng.uniform(1, 8), hours, ""


def _expiry(rng: random.Random) -> tuple[str, float, float, str]:
    return "controller", rng.uniform(2, 8), 30, ""


def _lapse(rng: random.Random) -> tuple[str, float, float, str]:
    return rng.choice(AGENTS), rng.uniform(2, 6), 0, ""


def _outbox(rng: random.Random) -> tuple[str, float, float, str]:
    how = rng.choice(("value", "value", "flip", "page", "torn", "wal-flip", "wal-torn"))
    return f"agent-{rng.choice(AGENTS)}", 0, float(rng.randrange(1, 10**6)), how


KINDS = (
    Kind("kill", 5, "process killed (SIGKILL)", _kill),
    Kind("freeze", 2, "process stopped and continued (SIGSTOP, SIGCONT)", _freeze),
    Kind("cut", 1.5, "link cut, new connections refused", _link(0.2, 5)),
    Kind("stall", 1, "link stalled: open, and nothing moves", _link(0.5, 8)),
    Kind("half-open", 1, "link half open: one direction dead", _half_open),
    Kind("reset", 1.5, "link reset (RST)", _link(0, 0)),
    Kind("limited", 1, "link cut after every n bytes", _limited),
    Kind("slow", 1, "link slow", _slow),
    Kind("web", 1.5, "HTTP sink fails: 500, 429, hangs, closes, is slow, refuses connections", _web),
    Kind("locked", 1, "SQL sink locked by another program", _locked),
    Kind("disk", 1.5, "disk full or failing (ENOSPC, EIO) under outbox, intake, state or file sink", _disk),
    Kind("clock", 1, "clock stepped by hours, and back", _clock),
    Kind("expiry", 0.5, "every agent's certificate expired by the controller's clock, and valid again", _expiry),
    Kind("lapse", 0.4, "an agent's certificate expired while it was down; enrolled again by a person", _lapse),
    Kind("outbox", 0.7, "outbox damaged: bits flipped, a page zeroed, torn, or its log", _outbox),
    Kind("push", 0.7, "configuration pushed, and changed back", _push),
)


def plan(seed: int, seconds: float, kinds: Iterable[Kind] = KINDS, every_seconds: float = 1.0) -> list[Fault]:
    """Faults over *seconds*, on average one every *every_seconds*, by time. The same arguments give the same list."""
    rng = random.Random(seed)
    choices = list(kinds)
    weights = [kind.weight for kind in choices]
    found: list[Fault] = []
    at = 0.5
    while True:
        at += rng.uniform(0.2, 1.8) * every_seconds
        if at >= seconds:
            return found
        kind = rng.choices(choices, weights)[0]
        target, held, value, word = kind.draw(rng)
        found.append(Fault(len(found), round(at, 2), kind.name, target, round(held, 2), value, word))
