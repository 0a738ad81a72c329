"""Routes against what can really happen: the documents that mappings make, at the sites where their sources run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crossdock.siteconfig import LANES
from crossdock_controller.conditions.lint import lint
from crossdock_controller.conditions.predicate import Predicate, compile_predicate
from crossdock_controller.conditions.vocabulary import Vocabulary
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.part import Part
from crossdock_controller.config.parts import Parts, models
from crossdock_controller.config.vocabulary import document_fields


def conditions_are_sound(parts: Parts) -> Iterator[Problem]:
    vocabulary = _vocabulary(parts)
    for part in parts.routes:
        data = part.file.value
        when = data.get("when") if isinstance(data, dict) else None
        if isinstance(when, str):
            for finding in lint(when, vocabulary):
                place = f" (at character {finding.column})" if finding.column > 1 else ""
                yield part.file.problem(("when",), finding.message + place, finding.hint)


def documents_have_a_way(parts: Parts) -> Iterator[Problem]:
    """Warnings: routes that nothing takes, labels a condition asks for and a site lacks, documents that go nowhere.

    For a tree without errors: a guess would be noise.
    """
    routes = [(part, compile_predicate(part.model.when)) for part in parts.routes if part.model is not None]
    taken: set[str] = set()
    for mapping_part, variables in _origins(parts):
        takers = [part.name for part, predicate in routes if _may_match(predicate, variables)]
        taken.update(takers)
        if not takers:
            message = f"no route takes its {variables['document']} documents from {variables['site']}"
            yield mapping_part.file.problem(("document",), message, "they stay in the event log only", warning=True)
    yield from _undecided(parts, routes)
    for part, _predicate in routes:
        if part.name not in taken:
            yield part.file.problem(("when",), "no document that a mapping makes can match", warning=True)


def _vocabulary(parts: Parts) -> Vocabulary:
    sites = models(parts.sites).values()
    return Vocabulary(
        fields=document_fields(),
        values={
            "document": frozenset(document_fields()),
            "site": frozenset(part.name for part in parts.sites),
            "source": frozenset(part.name for part in parts.sources),
            "lane": frozenset(LANES),
        },
        labels=frozenset(label for site in sites for label in site.all_labels()),
    )


def _origins(parts: Parts) -> Iterator[tuple[Part[Any], dict[str, Any]]]:
    """Every (mapping, static variables) that can occur: each mapping at each site where its source runs."""
    sources = models(parts.sources)
    for part in parts.mappings:
        mapping = part.model
        source = sources.get(mapping.reads) if mapping is not None else None
        for site in models(parts.sites).values():
            if mapping is not None and source is not None and source.runs_at(site):
                for document in (mapping.document, *(one.document for one in mapping.also)):
                    yield (
                        part,
                        {
                            "document": document,
                            "site": site.site,
                            "source": source.source,
                            "lane": source.lane,
                            "labels": site.all_labels(),
                        },
                    )


def _may_match(predicate: Predicate, variables: dict[str, Any]) -> bool:
    settled = predicate.settle(variables)
    return settled.matched or bool(settled.open)


def _undecided(parts: Parts, routes: list[tuple[Part[Any], Predicate]]) -> Iterator[Problem]:
    for part, predicate in routes:
        reasons: dict[str, list[str]] = {}
        for _mapping, variables in _origins(parts):
            failure = predicate.settle(variables).failure
            if failure and variables["site"] not in reasons.setdefault(failure, []):
                reasons[failure].append(variables["site"])
        for reason, sites in sorted(reasons.items()):
            message = f"cannot be decided at {', '.join(sites[:5])}, and is not taken there: {reason}"
            yield part.file.problem(
                ("when",), message, "give every site the label, or ask has(labels.NAME)", warning=True
            )
