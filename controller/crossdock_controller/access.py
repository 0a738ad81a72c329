"""Roles and the sites they hold at: what a person may do is decided from these values alone.

A grant is a role and a selector: "all", or labels that a site must carry ("region=us", "env=prod,region=us"; the label
`site` is its name). A role includes the ones below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from crossdock.errors import ConfigError
from crossdock_controller.hints import did_you_mean

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each includes those before it
ALL = "all"
Labels = Callable[[str], Mapping[str, str]]  # of a site, by its name; `site` itself need not be among them
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def role_of(word: str) -> Role:
    """Raises ConfigError for a word that is no role."""
    found = next((role for role in ROLES if role == word), None)
    if found is None:
        raise ConfigError(f"{word!r} is not a role", hint=did_you_mean(word, ROLES))
    return found


def selector_of(text: str) -> str:
    """*text* as it is stored: labels in the order of their names. Raises ConfigError."""
    if text.strip() == ALL:
        return ALL
    return ",".join(f"{name}={value}" for name, value in sorted(_labels(text).items()))


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not _LABEL.fullmatch(name) or not value or name in found:
            raise ConfigError(
                f"{text!r} selects no sites", hint="write labels, as region=us or region=us,env=prod, or all"
            )
        found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class Grant:
    role: Role
    selector: str

    def includes(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    def selects(self, site: str, labels: Labels) -> bool:
        if self.selector == ALL:
            return True
        carried = {**labels(site), "site": site}
        return all(carried.get(name) == value for name, value in _labels(self.selector).items())


class Sites:
    """Which sites some grants select: called with a name. *everything* when none, known or not, is left out."""

    def __init__(self, grants: Iterable[Grant], labels: Labels) -> None:
        self._grants = list(grants)
        self._labels = labels
        self.everything = any(grant.selector == ALL for grant in self._grants)

    def __call__(self, site: str) -> bool:
        return any(grant.selects(site, self._labels) for grant in self._grants)

    def under(self, labels: Labels) -> Sites:
        """The same grants, if sites carried these labels."""
        return Sites(self._grants, labels)


EVERYWHERE = Sites([Grant("admin", ALL)], lambda _site: {})


def reach(grants: Iterable[Grant], role: Role, labels: Labels) -> Sites | None:
    """The sites at which *grants* hold *role* or more; None when there is no such grant at all."""
    holding = [grant for grant in grants if grant.includes(role)]
    return Sites(holding, labels) if holding else None
