"""`policy.yaml`: which changes need a second person, and what must have run elsewhere first.

The policy of the revision in force governs the next one, so nobody rids themselves of it in the change it should stop.
A change of the policy itself always needs one more person. A rule looks at files, and at whatever those files reach: a
shared file counts as a change of every file that includes it, a group of every site it selects, an environment of every
site and of every file that uses a variable.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from crossdock_controller.config.models import StrictModel
from crossdock_controller.config.selection import Name, On, matches, text
from crossdock_controller.config.tree import POLICY

MAX_PEOPLE = 5


def _fingerprint(value: Any) -> Any:
    """Hex of SHA-256, as tools write it: with or without colons, in capitals or not."""
    if not isinstance(value, str):
        return value
    plain = value.replace(":", "").replace(" ", "").lower().removeprefix("sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("is no fingerprint; write the 64 hex digits that 'crossdock config promote' shows")
    return plain


class ApprovalRule(StrictModel):
    """Changes that need more people than their author."""

    paths: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default=["*"], min_length=1, description="files, with * and ?; any of them"
    )
    sites: On | None = Field(default=None, description="... and only changes that reach a site with these labels")
    environments: list[Name] | None = Field(default=None, min_length=1, description="... and only here")
    people: int = Field(default=1, ge=1, le=MAX_PEOPLE, description="how many must approve, besides the author")

    def text(self) -> str:
        words = ", ".join(self.paths)
        return f"{words} at {text(self.sites)}" if self.sites is not None else words


class PromotionRule(StrictModel):
    """A tree must have run in another environment before it is applied here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    from_: Name = Field(alias="from", description="the environment in which it must have run")
    authority: Annotated[str, BeforeValidator(_fingerprint)] = Field(
        description="SHA-256 fingerprint of the CA of that environment's controller"
    )
    hours: float = Field(default=0.0, ge=0, le=24 * 366, description="... for so long without trouble")


class Policy(StrictModel):
    """`policy.yaml`, at the top of the tree."""

    approvals: list[ApprovalRule] = Field(default=[], description="which changes need a second person")
    promotion: PromotionRule | None = Field(default=None, description="what must have run elsewhere first")


@dataclass(frozen=True, slots=True)
class Need:
    """Why a change waits: *people* besides the author, for *paths*, by *rule* (in words)."""

    rule: str
    people: int
    paths: tuple[str, ...]


def covers(pattern: str, path: str) -> bool:
    """Whether a rule for *pattern* is about the file *path*. `*` also stands for folders."""
    return fnmatch.fnmatchcase(path, pattern)


def needs(policy: Policy | None, touched: Iterable[str], sites: Iterable[Any], environment: str) -> list[Need]:
    """What *policy* asks for a change that touches the files *touched* and takes effect at *sites* (label mappings).

    Nothing without a policy.
    """
    if policy is None:
        return []
    paths = sorted(set(touched))
    labels = list(sites)
    found = [Need(f"{POLICY} itself", 1, (POLICY,))] if POLICY in paths else []
    for rule in policy.approvals:
        if rule.environments is not None and environment not in rule.environments:
            continue
        hit = tuple(p for p in paths if any(covers(pattern, p) for pattern in rule.paths))
        if hit and _reaches(rule, labels):
            found.append(Need(rule.text(), rule.people, hit))
    return found


def _reaches(rule: ApprovalRule, sites: list[Any]) -> bool:
    return rule.sites is None or any(matches(rule.sites, labels) for labels in sites)
