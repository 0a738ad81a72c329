"""Writers against the sites they are at, and the sinks that name them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from crossdock_controller.config import selection, variables
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.models import WRITER_KEYS, Site, Writer
from crossdock_controller.config.part import Part
from crossdock_controller.config.parts import Parts
from crossdock_controller.config.schema import setting_names, writer_findings, writer_kinds
from crossdock_controller.hints import did_you_mean


def settings_are_valid(parts: Parts) -> Iterator[Problem]:
    """By the schema of the kind, with the variables of each site put in; the same finding at many sites is one."""
    for part in parts.writers:
        data = part.file.value
        if not isinstance(data, dict) or data.get("kind") not in writer_kinds():
            continue
        settings = {key: value for key, value in data.items() if key not in WRITER_KEYS}
        found: dict[tuple[str, str], Problem] = {}
        variants: dict[str, Any] = {}
        for site in _sites_of(part, parts):
            values = variables.values_of(site)
            for path, message, hint in variables.unknown(settings, values):
                problem = part.file.problem(path, f"{message} at {site.site}", hint or "add it to the site's variables")
                found.setdefault((problem.path, message), problem)
            variant = variables.substitute(settings, values)
            variants.setdefault(json.dumps(variant, sort_keys=True), variant)
        for variant in variants.values() or [settings]:
            for problem in _findings(part, str(data["kind"]), variant):
                found.setdefault((problem.path, problem.message), problem)
        yield from found.values()


def writers_are_somewhere(parts: Parts) -> Iterator[Problem]:
    """A writer that selects no site is usually a mistyped label."""
    sites = [site.model.all_labels() for site in parts.sites if site.model is not None]
    if len(sites) < len(parts.sites):
        return
    for part in parts.writers:
        if part.model is not None and not any(selection.matches(part.model.on, labels) for labels in sites):
            yield part.file.problem(("on",), "selects no site", selection.hint(part.model.on, sites), warning=True)


def sinks_have_their_writer(parts: Parts) -> Iterator[Problem]:
    """A sink of kind `agent` names a site, and a writer that is there, in each environment."""
    sites = {model.site: model for part in parts.sites for model in part.variants.values()}
    writers = {part.name: part for part in parts.writers}
    for part in parts.sinks:
        seen: set[tuple[str, str]] = set()
        for sink in part.variants.values():
            named = (str(sink.settings.get("site")), str(sink.settings.get("writer")))
            if sink.kind != "agent" or named in seen:
                continue
            seen.add(named)
            yield from _way_there(part, *named, sites, writers)


def _way_there(
    part: Part[Any], site: str, writer: str, sites: dict[str, Site], writers: dict[str, Part[Writer]]
) -> Iterator[Problem]:
    if site not in sites:
        yield part.file.problem(("site",), f"there is no site {site!r}", did_you_mean(site, sites))
    found = writers.get(writer)
    if found is None:
        hint = did_you_mean(writer, writers) or f"add writers/{writer}.yaml"
        yield part.file.problem(("writer",), f"there is no writer {writer!r}", hint)
    elif found.model is not None and site in sites and not found.model.runs_at(sites[site]):
        message = f"the writer {writer!r} is not at site {site!r}"
        yield part.file.problem(("writer",), message, f"see 'on' in {found.file.name}")


def _findings(part: Part[Writer], kind: str, settings: dict[str, Any]) -> Iterator[Problem]:
    for finding in writer_findings(kind, settings):
        hint = finding.hint
        if len(finding.path) == 1 and finding.message.startswith("unknown key"):
            hint = did_you_mean(str(finding.path[0]), [*WRITER_KEYS, *setting_names(kind, "writers")])
        yield part.file.problem(finding.path, finding.message, hint)


def _sites_of(part: Part[Writer], parts: Parts) -> list[Site]:
    writer = part.model
    if writer is None:
        return []
    return [model for site in parts.sites for model in site.variants.values() if writer.runs_at(model)]
