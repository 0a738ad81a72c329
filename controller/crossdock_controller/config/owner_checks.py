"""What teams and reconciliations name must be there: a mistyped document would have no owner, and no word of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crossdock_controller.config import selection
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.part import Part
from crossdock_controller.config.parts import Parts
from crossdock_controller.config.vocabulary import document_fields
from crossdock_controller.hints import did_you_mean


def teams_name_what_exists(parts: Parts) -> Iterator[Problem]:
    known: dict[str, list[str]] = {
        "documents": sorted(document_fields()),
        "sources": [p.name for p in parts.sources],
        "sinks": [p.name for p in parts.sinks],
    }
    sites = _labels(parts)
    for part in parts.teams:
        for i, owned in enumerate(part.model.owns if part.model is not None else []):
            for kind, names in known.items():
                for j, name in enumerate(getattr(owned, kind)):
                    if name not in names:
                        message = f"there is no {kind.removesuffix('s')} {name!r}"
                        yield part.file.problem(("owns", i, kind, j), message, did_you_mean(name, names))
            if sites and not any(selection.matches(owned.on, labels) for labels in sites):
                advice = selection.hint(owned.on, sites)
                yield part.file.problem(("owns", i, "on"), "selects no site", advice, warning=True)


def reconciliations_name_what_exists(parts: Parts) -> Iterator[Problem]:
    documents, sources = document_fields(), [p.name for p in parts.sources]
    for part in parts.reconciliations:
        model = part.model
        if model is None:
            continue
        for side in ("left", "right"):
            name = getattr(model, side).source
            if name not in sources:
                yield part.file.problem((side, "source"), f"there is no source {name!r}", did_you_mean(name, sources))
        if model.document not in documents:
            message = f"there is no document {model.document!r}"
            yield part.file.problem(("document",), message, did_you_mean(model.document, documents))
            continue
        yield from _fields_exist(part, documents[model.document])


def _fields_exist(part: Part[Any], fields: dict[str, str]) -> Iterator[Problem]:
    assert part.model is not None  # noqa: S101 - asked of sound ones
    for key in ("match", "compare"):
        for i, path in enumerate(getattr(part.model, key)):
            if path.startswith("extensions."):
                continue
            if path not in fields:
                message = f"{part.model.document} has no field {path!r}"
                yield part.file.problem((key, i), message, did_you_mean(path, fields))
            elif _in_list(path, fields):
                yield part.file.problem((key, i), f"{path} is in a list", "compare fields that a document has once")


def _in_list(path: str, fields: dict[str, str]) -> bool:
    names = path.split(".")
    return any(fields.get(".".join(names[:n])) == "list" for n in range(1, len(names) + 1))


def _labels(parts: Parts) -> list[dict[str, str]]:
    """Of every site; none when one of them cannot be read."""
    found = [p.model.all_labels() for p in parts.sites if p.model is not None]
    return found if len(found) == len(parts.sites) else []
