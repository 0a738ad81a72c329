"""`on`: which sites, by their labels. `{}` is every site; every label named must fit.

on: {region: us}                          the label has this value
on: {region: [us, ca]}                    ... any of these
on: {region: [us, ca], env: {not: test}}  ... and none of those; a site without the label fits
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from crossdock_controller.hints import did_you_mean

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Labels = Mapping[str, str]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Not(BaseModel):
    """Sites that do not carry the value, or any of the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    values: Annotated[list[Label], BeforeValidator(_listed)] = Field(
        alias="not", min_length=1, description="a value, or a list of values"
    )


Wanted = Label | list[Label] | Not
On = dict[Name, Wanted]


def matches(on: Mapping[str, Wanted], labels: Labels) -> bool:
    """Whether a site with *labels* (its name among them, as `site`) is selected."""
    return all(_fits(wanted, labels.get(name)) for name, wanted in on.items())


def parse(pairs: Iterable[str]) -> dict[str, Wanted]:
    """("region=us", "region=ca", "env!=test") as `on`: what a person types for one look at it. Raises ValueError."""
    wanted: dict[str, list[str]] = {}
    unwanted: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        into = unwanted if name.endswith("!") else wanted
        if not equals or not name.strip("! ") or not value.strip():
            raise ValueError(f"{pair!r} is no label; write region=us, or env!=test")
        into.setdefault(name.strip("! "), []).append(value.strip())
    both = sorted(wanted.keys() & unwanted.keys())
    if both:
        raise ValueError(f"label {both[0]!r} is asked for with '=' and with '!='; use one of them")
    return {**wanted, **{name: Not.model_validate({"not": values}) for name, values in unwanted.items()}}


def text(on: Mapping[str, Wanted]) -> str:
    """For people: "region: us or ca, env: not test"; "every site" for `{}`."""
    words = []
    for name, wanted in on.items():
        values = wanted.values if isinstance(wanted, Not) else [wanted] if isinstance(wanted, str) else wanted
        words.append(f"{name}: {'not ' if isinstance(wanted, Not) else ''}{' or '.join(values)}")
    return ", ".join(words) or "every site"


def hint(on: Mapping[str, Wanted], sites: Iterable[Labels]) -> str:
    """Why no site of *sites* is selected, for a person who mistyped a label."""
    every = list(sites)
    for name, wanted in on.items():
        if isinstance(wanted, Not):
            continue
        known = {labels[name] for labels in every if name in labels}
        if not known:
            return f"no site has the label {name!r}; " + did_you_mean(name, {label for s in every for label in s})
        values = [wanted] if isinstance(wanted, str) else wanted
        if values and not known & set(values):
            return f"no site has {name}: {values[0]}; " + did_you_mean(values[0], known)
    return "no one site has all of these labels"


def _fits(wanted: Wanted, value: str | None) -> bool:
    if isinstance(wanted, Not):
        return value not in wanted.values
    return value == wanted if isinstance(wanted, str) else value in wanted
