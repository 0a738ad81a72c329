"""Which sites are in which wave. The choice is made once, when the rollout is made, and is the same each time.

A selector is names of sites (`atl1,rtm1`), a share (`10%`), a label (`region=us`) or `all`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossdock.errors import ConfigError
from crossdock_controller.hints import did_you_mean
from crossdock_controller.rollouts.model import Wave

REST = "all"
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A wave as a person asked for it."""

    name: str
    selector: str


def first(text: str) -> Asked:
    """`canary=atl1`: the first wave with its name; without one, the selector is the name."""
    named = _NAMED.fullmatch(text.strip())
    return Asked(named[1], named[2].strip()) if named else Asked(text.strip(), text.strip())


def following(text: str) -> Asked:
    """`10%`, `region=us`, or `early=region=us` with a name."""
    named = _NAMED.fullmatch(text.strip())
    if named and "=" in named[2]:
        return Asked(named[1], named[2].strip())
    return Asked(text.strip(), text.strip())


def resolve(
    asked: Sequence[Asked], changing: Mapping[str, Mapping[str, str]], known: Sequence[str]
) -> tuple[Wave, ...]:
    """*asked* over the sites that change and have an agent (*changing*: their labels); *known* are all sites.

    A site is in the first wave that selects it. What none selects is a last wave of its own: it changes as well, and
    is to be held on health like the others. Raises ConfigError for a wave that would hold nothing.
    """
    left = dict(changing)
    waves: list[Wave] = []
    for wave in asked:
        chosen = _chosen(wave, left, changing, known)
        if not chosen and not (wave.selector == REST and waves and not left):
            message, hint = _nothing(wave, changing, known)
            raise ConfigError(message, hint=hint)
        if chosen:
            waves.append(Wave(wave.name, wave.selector, tuple(sorted(chosen))))
        for site in chosen:
            del left[site]
    if left:
        waves.append(Wave("the rest", REST, tuple(sorted(left))))
    return tuple(waves)


def order(site: str) -> bytes:
    """Sites in no order that anyone would choose, and always the same."""
    return hashlib.sha256(site.encode()).digest()


def _chosen(
    wave: Asked, left: Mapping[str, Mapping[str, str]], changing: Mapping[str, object], known: Sequence[str]
) -> list[str]:
    selector = wave.selector
    share = _SHARE.fullmatch(selector)
    if selector == REST:
        return list(left)
    if share:
        percent = float(share[1])
        if not 0 < percent <= 100:
            raise ConfigError(f"wave {wave.name}: {selector} is no share of the sites", hint="1% to 100%")
        return sorted(left, key=order)[: math.ceil(len(changing) * percent / 100)]
    if "=" in selector:
        label, _, value = selector.partition("=")
        return [site for site, labels in left.items() if labels.get(label.strip()) == value.strip()]
    names = [name.strip() for name in selector.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"wave {wave.name}: there is no site {unknown[0]!r}",
            hint=did_you_mean(unknown[0], known) or "a selector is names of sites, 10%, label=value or all",
        )
    return [name for name in names if name in left]


def _nothing(wave: Asked, changing: Mapping[str, object], known: Sequence[str]) -> tuple[str, str]:
    """(message, hint) of a wave that selects no site."""
    if not changing:
        return (
            "nothing can be rolled out in waves: no site with an agent changes",
            "apply it without --wave; 'crossdock plan' shows what changes",
        )
    ones = [n.strip() for n in wave.selector.split(",")]
    same = [name for name in ones if name in known and name not in changing]
    said = f"wave {wave.name} ({wave.selector}) selects no site that is left to change"
    if same:
        said = f"wave {wave.name}: {', '.join(same)} does not change, or has no agent"
    some = ", ".join(sorted(changing)[:5])
    return said, f"sites that change and have an agent: {some}"
