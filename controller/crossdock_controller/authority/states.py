"""The phases of replacing a certificate authority, as pure steps over the flags of each: add, issue, switch, retire.

At every moment one authority issues agents' certificates and one serves: it signs the server's certificate and the
configurations. What is trusted is in the bundle that agents get, and accepted at the link port. The list is in the
order in which they were made; what retired stays in it, for the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from crossdock.errors import ConfigError

PREFIX = 4  # hex digits of a fingerprint that a person has to give


@dataclass(frozen=True, slots=True)
class State:
    """*fingerprint*: SHA-256 of the certificate, hex. *file*: its files without their ending. *crosses*: certificates
    (PEM) for its key made by earlier authorities, by the fingerprint of each. Times are microseconds UTC."""

    fingerprint: str
    file: str
    made_us: int
    trusted: bool = True
    issuing: bool = False
    serving: bool = False
    retired_us: int = 0
    crosses: dict[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """ "trusted", "issuing", "serving", "issuing, serving" or "retired"."""
        if not self.trusted:
            return "retired"
        return ", ".join(w for w, holds in (("issuing", self.issuing), ("serving", self.serving)) if holds) or "trusted"


States = tuple[State, ...]


def first(fingerprint: str, file: str, made_us: int) -> States:
    return (State(fingerprint, file, made_us, issuing=True, serving=True),)


def added(states: States, new: State) -> States:
    """With *new*, trusted and no more. Raises ConfigError while another replacement is under way."""
    waiting = newest(states)
    if not waiting.serving:
        name = short(waiting.fingerprint)
        give_up = "" if waiting.issuing else f", or give it up: crossdock ca retire {name}"
        raise ConfigError(
            f"authority {name} was added and does not serve yet",
            hint=f"finish that replacement first: {next_step(states)}{give_up}",
        )
    return (*states, replace(new, trusted=True, issuing=False, serving=False))


def issued(states: States) -> States:
    """The newest issues agents' certificates from now on. Raises ConfigError when it does already."""
    chosen = newest(states)
    if chosen.issuing:
        raise ConfigError(
            f"authority {short(chosen.fingerprint)}, the newest, issues already",
            hint="next: crossdock ca switch"
            if not chosen.serving
            else "to replace it, add one first: crossdock ca add",
        )
    return tuple(replace(s, issuing=s is chosen) for s in states)


def switched(states: States) -> States:
    """The one that issues serves from now on. Raises ConfigError when it does already, or a newer one does not issue
    yet."""
    chosen = newest(states)
    if chosen.serving:
        raise ConfigError(
            f"authority {short(chosen.fingerprint)}, the newest, serves already",
            hint="to replace it, add one first: crossdock ca add",
        )
    if not chosen.issuing:
        raise ConfigError(
            f"authority {short(chosen.fingerprint)} does not issue certificates yet", hint="first: crossdock ca issue"
        )
    return tuple(replace(s, serving=s is chosen) for s in states)


def retired(states: States, fingerprint: str, now_us: int) -> States:
    """No agent trusts this one any more, and none may show a certificate of it. Raises ConfigError while it is used for
    new ones: no force changes that."""
    chosen = find(states, fingerprint)
    if not chosen.trusted:
        raise ConfigError(f"authority {short(chosen.fingerprint)} is retired", hint="'crossdock ca' lists all of them")
    if chosen.serving or chosen.issuing:
        does = "serves" if chosen.serving else "issues certificates"
        step = "crossdock ca add" if newest(states).serving else next_step(states)
        raise ConfigError(
            f"authority {short(chosen.fingerprint)} cannot retire: it {does} now",
            hint=f"let a newer one take over first: {step}",
        )
    done = replace(chosen, trusted=False, retired_us=now_us, crosses={})
    # What it vouched for is worth nothing to anybody from now on.
    others = (
        s if s is chosen else replace(s, crosses={k: v for k, v in s.crosses.items() if k != chosen.fingerprint})
        for s in states
    )
    return tuple(done if s is chosen else s for s in others)


def find(states: States, fingerprint: str) -> State:
    """The one whose fingerprint begins with *fingerprint* (with or without colons). Raises ConfigError."""
    wanted = fingerprint.replace(":", "").lower()
    found = [s for s in states if s.fingerprint.startswith(wanted)]
    if len(wanted) < PREFIX or len(found) != 1:
        what = f"{len(found)} authorities begin" if len(found) > 1 else "no authority begins"
        raise ConfigError(
            f"{what} with {fingerprint!r}", hint=f"'crossdock ca' lists them; give {PREFIX} digits or more"
        )
    return found[0]


def newest(states: States) -> State:
    """The last one made that is trusted: what a replacement under way is about, and else the one that does it all."""
    return [s for s in states if s.trusted][-1]


def serving(states: States) -> State:
    return next(s for s in states if s.serving)


def next_step(states: States) -> str:
    """The command that goes on with a replacement under way; "" when none is."""
    latest = newest(states)
    if not latest.issuing:
        return "crossdock ca issue"
    if not latest.serving:
        return "crossdock ca switch"
    older = [s for s in states if s.trusted and s is not latest]
    return f"crossdock ca retire {short(older[0].fingerprint)}" if older else ""


def goes_on(later: States, earlier: States) -> bool:
    """Whether *later* is *earlier* some steps on: what came between is not to be undone, for agents have followed."""
    if later[: len(earlier)] == earlier and len(later) == len(earlier):
        return False
    same = [s.fingerprint for s in later[: len(earlier)]] == [s.fingerprint for s in earlier]
    duties = all(_place(later, flag) >= _place(earlier, flag) for flag in ("issuing", "serving"))
    return same and duties and all(b.trusted or not a.trusted for a, b in zip(later, earlier, strict=False))


def _place(states: States, flag: str) -> int:
    return next(n for n, s in enumerate(states) if getattr(s, flag))


def check(states: Sequence[State]) -> str:
    """What is wrong with a list that was read; "" for one that the steps above can have made."""
    issuing, serves = [s for s in states if s.issuing], [s for s in states if s.serving]
    if len(issuing) != 1 or len(serves) != 1:
        return f"{len(issuing)} authorities issue and {len(serves)} serve, it must be one each"
    if not (issuing[0].trusted and serves[0].trusted):
        return "an authority in use is not trusted"
    if len({s.fingerprint for s in states}) != len(states):
        return "an authority is named twice"
    return ""


def short(fingerprint: str) -> str:
    """As people give and read it."""
    return fingerprint[:12]
