"""Tests of mappings, run against a sound tree: a failing one is a problem with its file and line.

What runs is limited: records and bytes of each test, and the time of all together. A test that did not get its turn is
an error too, since nobody knows what it would have said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossdock_controller.config import compile as compiling
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.part import Part
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.samples import running
from crossdock_controller.samples.cases import MappingTest

if TYPE_CHECKING:
    from crossdock_controller.config.load import Loaded

SECONDS = 20.0  # for all tests of a tree
MOST_SHOWN = 10  # differences of one test


@dataclass(frozen=True, slots=True)
class Tested:
    """*problems* is empty for a test that passed; *seconds* is what it took."""

    test: str
    file: str
    mapping: str
    site: str
    seconds: float
    problems: tuple[Problem, ...]


def run(
    loaded: Loaded,
    parts: Sequence[Part[MappingTest]],
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> list[Tested]:
    """Every test, by file."""
    engines: dict[tuple[str, str], Engine] = {}
    began = clock()
    found = []
    for part in parts:
        if part.model is None:
            continue
        started = clock()
        if started - began > seconds:
            message = f"was not run: the tests before it took more than {seconds:.0f} s"
            problems = [part.file.problem(("test",), message, "give them less input")]
            found.append(Tested(part.name, part.file.name, "", "", 0.0, tuple(problems)))
            continue
        source, site = _target(loaded, part.model)
        problems = list(_problems(loaded, part, source, site, engines))
        found.append(Tested(part.name, part.file.name, source, site, clock() - started, tuple(problems)))
    return found


def named(loaded: Loaded, test: MappingTest) -> str:
    """The source whose mapping *test* is about; empty when there is none."""
    if test.source is not None:
        return test.source if loaded.mapping_of(test.source) is not None else ""
    return next((source for source, mapping in loaded.mappings.items() if mapping.mapping == test.mapping), "")


def _target(loaded: Loaded, test: MappingTest) -> tuple[str, str]:
    """Source and site; empty where there is none."""
    source = named(loaded, test)
    sites = sites_of(loaded, source)
    return source, test.site if test.site in sites else "" if test.site else next(iter(sites), "")


def sites_of(loaded: Loaded, source: str) -> list[str]:
    """Sites at which *source* runs, by name."""
    reader = loaded.sources.get(source)
    return [name for name, site in sorted(loaded.sites.items()) if reader is not None and reader.runs_at(site)]


def engine_of(loaded: Loaded, source: str, site: str) -> tuple[Engine, Any] | None:
    """The engine of *source* at *site* with the settings of its format; None when it has no mapping there."""
    mapping, settings = loaded.mapping_of(source), loaded.settings_at(site, source)
    form = compiling.typed_format(settings) if settings is not None else None
    if mapping is None or form is None:
        return None
    zone = loaded.sites[site].zone
    return Engine(site=site, source=source, zone=zone, format_settings=form, mapping=mapping, revision=0), form


def _problems(
    loaded: Loaded, part: Part[MappingTest], source: str, site: str, engines: dict[tuple[str, str], Engine]
) -> Iterator[Problem]:
    test = part.model
    assert test is not None  # noqa: S101 - asked by the caller
    if not source:
        word, name = ("source", test.source) if test.source is not None else ("mapping", test.mapping)
        known = list(loaded.mappings) if word == "source" else [m.mapping for m in loaded.mappings.values()]
        yield part.file.problem((word,), f"there is no {word} {name!r}", did_you_mean(str(name), known))
        return
    if not site:
        sites = sites_of(loaded, source)
        said = f"the source {source} runs nowhere" if not test.site else f"{source} does not run at {test.site!r}"
        yield part.file.problem(("site",), said, f"it runs at {', '.join(sites[:5])}" if sites else "")
        return
    made = engine_of(loaded, source, site)
    if made is None:
        yield part.file.problem(("test",), f"the source {source} has no mapping at {site}", "")
        return
    engine = engines.setdefault((site, source), made[0])
    found = running.run(test, engine, made[1])
    for difference in found[:MOST_SHOWN]:
        yield part.file.problem(difference.path, difference.text(), f"crossdock mapping test shows {part.name} alone")
    if len(found) > MOST_SHOWN:
        yield part.file.problem(("expected",), f"and {len(found) - MOST_SHOWN} more differences", "")
