"""Which sinks an event is due at. A condition that cannot be decided does not match, is counted, and stops nothing.

Most conditions name only the kind of document and its origin: they are decided once for each (document, site, source)
and then cost one dictionary look-up for an event. Only conditions on the document's own values run for each event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from crossdock_controller.conditions.predicate import Predicate, PredicateFailed, Settled

_MAX_COUNTED = 200  # different problems kept between two calls of `take_problems`


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    name: str
    predicate: Predicate
    sinks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouteProblem:
    """*route* could not be decided *count* times: for one event each, or once for all events of a source when the part
    that does not look into the document failed (a label the site does not carry). Those events did not take it."""

    route: str
    document: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is known of (document, site, source) alone: sinks due for sure, and routes that ask each document."""

    variables: dict[str, object]
    always: tuple[str, ...]
    open_routes: tuple[tuple[CompiledRoute, Settled], ...]


class Router:
    """Routes of one revision. Used from one thread at a time: it counts problems."""

    def __init__(self, routes: Sequence[CompiledRoute], lanes: Mapping[str, str] | None = None) -> None:
        """*lanes*: the lane of each source, for conditions that name `lane`."""
        self.routes = tuple(routes)
        self._lanes = dict(lanes or {})
        self._decided: dict[tuple[str, str, str], _Decided] = {}
        self._problems: dict[tuple[str, str, str], int] = {}

    def route(
        self, document: str, key: str, site: str, source: str, labels: Mapping[str, str], fields: msgspec.Struct
    ) -> tuple[str, ...]:
        """Names of the sinks this event is due at: each once, in a stable order; empty when none matches.

        Never raises for what an event contains. *labels* must be those of *site*: they are looked at once a source.
        """
        decided = self._decided.get((document, site, source))
        if decided is None:
            decided = self._decide(document, site, source, labels)
        if not decided.open_routes:
            return decided.always
        sinks = dict.fromkeys(decided.always)
        for route, settled in decided.open_routes:
            try:
                matched = settled.holds(decided.variables, key, fields)
            except PredicateFailed as error:
                self._count(route.name, document, str(error))
                continue
            if matched:
                sinks.update(dict.fromkeys(route.sinks))
        return tuple(sinks)

    def take_problems(self) -> list[RouteProblem]:
        """Problems since the last call, most frequent first. Logged once a batch by the caller."""
        problems = [RouteProblem(*key, count) for key, count in self._problems.items()]
        self._problems.clear()
        return sorted(problems, key=lambda p: (-p.count, p.route, p.document, p.text))

    def _decide(self, document: str, site: str, source: str, labels: Mapping[str, str]) -> _Decided:
        variables: dict[str, object] = {
            "document": document,
            "site": site,
            "source": source,
            "lane": self._lanes.get(source, "standard"),
            "labels": {**labels, "site": site},
        }
        always: dict[str, None] = {}
        open_routes: list[tuple[CompiledRoute, Settled]] = []
        for route in self.routes:
            settled = route.predicate.settle(variables)
            if settled.failure:
                self._count(route.name, document, settled.failure)
            if settled.matched:
                always.update(dict.fromkeys(route.sinks))
            elif settled.open:
                open_routes.append((route, settled))
        decided = _Decided(variables, tuple(always), tuple(open_routes))
        self._decided[document, site, source] = decided
        return decided

    def _count(self, route: str, document: str, text: str) -> None:
        key = (route, document, text)
        if key in self._problems or len(self._problems) < _MAX_COUNTED:
            self._problems[key] = self._problems.get(key, 0) + 1
