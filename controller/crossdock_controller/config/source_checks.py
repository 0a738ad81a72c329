"""Sources against the sites they run at: labels, variables, the settings of their kind, their format, their mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from crossdock_controller.config import lists, selection, typed, variables
from crossdock_controller.config.compile import format_settings, typed_format
from crossdock_controller.config.errors import Problem
from crossdock_controller.config.models import SOURCE_KEYS, Site, Source
from crossdock_controller.config.part import Part
from crossdock_controller.config.parts import Parts, models
from crossdock_controller.config.schema import setting_names, source_findings, source_kinds
from crossdock_controller.formats.base import kinds as format_kinds
from crossdock_controller.hints import did_you_mean
from crossdock_controller.mappings import compile as mapping_compile
from crossdock_controller.mappings.model import yaml_path

_TOGETHER = "read the rows with their parent ('aggregate' of the source), or make a document of each row"


def sources_run_somewhere(parts: Parts) -> Iterator[Problem]:
    """A source that selects no site, and a site that nothing selects, are named: both are usually a mistyped label."""
    if any(site.model is None for site in parts.sites) or any(source.model is None for source in parts.sources):
        return  # which site a source selects cannot be told
    sites = [site.model for site in parts.sites if site.model is not None]
    for part in parts.sources:
        if part.model is not None and not any(part.model.runs_at(site) for site in sites):
            yield part.file.problem(
                ("on",), "selects no site", selection.hint(part.model.on, [s.all_labels() for s in sites]), warning=True
            )
    for site_part in parts.sites:
        site = site_part.model
        if site is None or site.stop_all:
            continue
        here: list[Part[Any]] = [*parts.sources, *parts.writers]
        if not any(part.model is not None and part.model.runs_at(site) for part in here):
            message = "no source runs at this site; its agents keep what they have"
            yield site_part.file.problem(("site",), message, "'stop_all: true' stops them on purpose", warning=True)


def settings_are_valid(parts: Parts) -> Iterator[Problem]:
    """Settings by the schema of the kind, and the format by its model, with the variables of each site put in.

    A source whose settings name no variable is checked once; the same finding at many sites is one problem.
    """
    for part in parts.sources:
        data = part.file.value
        if not isinstance(data, dict) or data.get("kind") not in source_kinds():
            continue
        settings = {key: value for key, value in data.items() if key not in SOURCE_KEYS}
        yield from _unknown_variables(part, settings, parts)
        for variant in _variants(part, settings, parts):
            yield from _settings_problems(part, str(data["kind"]), variant)


def mappings_fit_their_sources(parts: Parts) -> Iterator[Problem]:
    """What compiling a mapping finds: unknown documents and fields, conversions that do not fit, columns that the
    format says it has not."""
    sources, known = models(parts.sources), lists.by_name(parts.lists)
    for part in parts.mappings:
        if part.model is not None:
            source = sources.get(part.model.reads)
            for finding in mapping_compile.problems(part.model, _declared(source), known):
                path = yaml_path(part.file.value, finding.path)
                yield part.file.problem(path, finding.message, finding.hint)
            apart = _apart(source) if part.model.each else None
            if apart is not None:
                message = f"source {part.model.reads} does not send the rows of a group together: {apart}"
                yield part.file.problem(("each",), message, _TOGETHER)


def _apart(source: Source | None) -> str | None:
    """Why rows of one document may come at different times, so that the document would lack some of them."""
    if source is None or source.kind not in ("sql_table", "sql_query"):
        return None
    mode, settings = source.settings.get("mode"), source.settings
    if mode in ("snapshot", "change_log"):
        return f"with mode {mode} a row comes when it has changed, without the others"
    if settings.get("reconcile") is not None:
        return "'reconcile' sends a row that was missed without the others"
    if settings.get("initial_load") == "key":
        return "'initial_load: key' reads page by page, with new rows between them"
    return None


def _declared(source: Source | None) -> mapping_compile.Declared:
    """What the settings of *source* tell about its records; nothing where only the data does."""
    if source is None:
        return mapping_compile.Declared()
    if source.kind in ("sql_table", "sql_query"):
        return _declared_rows(source.settings)
    known = typed_format(source.settings)
    if known is None:
        return mapping_compile.Declared()
    inner = known.lists_declared()
    declared = mapping_compile.Declared(known.columns_declared(), None if inner is None else dict.fromkeys(inner))
    return replace(declared, listless="name it in 'lists' of its format") if known.kind == "xml" else declared


def _declared_rows(settings: Mapping[str, Any]) -> mapping_compile.Declared:
    """Of a table: its columns, those of its child tables, and what is left of a deleted row."""
    aggregate = settings.get("aggregate")
    children = aggregate.get("children") if isinstance(aggregate, dict) else None
    inner: dict[str, list[str] | None] = {}
    for child in children if isinstance(children, list) else ():
        if isinstance(child, dict):
            foreign = list(child["on"]) if isinstance(child.get("on"), dict) else []
            inner[str(child.get("as"))] = _listed(child, "columns", "column", "key", extra=foreign)
    columns = _listed(settings, "columns", "key", "column", extra=list(inner))
    # The change log keeps the whole row that was deleted; every other mode knows its key.
    delete = None if settings.get("mode") == "change_log" else _names(settings.get("key") or settings.get("column"))
    return mapping_compile.Declared(columns, inner, delete)


def _listed(settings: Mapping[str, Any], first: str, *others: str, extra: list[str]) -> list[str] | None:
    """The columns that *settings* name, None when *first* is not given: then the table has them all."""
    if not isinstance(settings.get(first), list):
        return None
    return [name for key in (first, *others) for name in _names(settings.get(key))] + extra


def _names(value: Any) -> list[str]:
    return [str(name) for name in (value if isinstance(value, list) else [value]) if name]


def _sites_of(part: Part[Source], parts: Parts) -> list[Site]:
    """The sites that *part* runs at, once for each environment they belong to."""
    source = part.model
    if source is None:
        return []
    return [model for site in parts.sites for model in site.variants.values() if source.runs_at(model)]


def _unknown_variables(part: Part[Source], settings: dict[str, Any], parts: Parts) -> Iterator[Problem]:
    if not variables.uses_variables(settings):
        return
    missing: dict[tuple[Any, ...], list[str]] = {}
    for site in _sites_of(part, parts):
        for finding in variables.unknown(settings, variables.values_of(site)):
            names = missing.setdefault(finding, [])
            names += [site.site] if site.site not in names else []
    for (path, message, hint), sites in missing.items():
        where = ", ".join(sites[:5]) + (f" and {len(sites) - 5} more" if len(sites) > 5 else "")
        advice = hint if hint.startswith("did") or "$${" in hint else "add it to 'variables' of the site"
        yield part.file.problem(path, f"{message} at {where}", advice)


def _variants(part: Part[Source], settings: dict[str, Any], parts: Parts) -> list[dict[str, Any]]:
    """The different settings this source has at its sites; as they are written when it has none."""
    if not variables.uses_variables(settings):
        return [settings]
    found: dict[str, dict[str, Any]] = {}
    for site in _sites_of(part, parts):
        variant = variables.substitute(settings, variables.values_of(site))
        found.setdefault(json.dumps(variant, sort_keys=True), variant)
    return list(found.values()) or [settings]


def _settings_problems(part: Part[Source], kind: str, settings: dict[str, Any]) -> Iterator[Problem]:
    # Suggestions may also name a key that is not a setting ("lnae" for "lane").
    seen: set[str] = set()
    for finding in source_findings(kind, settings):
        hint = finding.hint
        if len(finding.path) == 1 and finding.message.startswith("unknown key"):
            hint = did_you_mean(str(finding.path[0]), [*SOURCE_KEYS, *setting_names(kind)])
        problem = part.file.problem(finding.path, finding.message, hint)
        seen.add(problem.path)
        if not any(p.path == problem.path for p in part.problems):
            yield problem
    if any(path.startswith("format") for path in seen):
        return
    format_given = format_settings(settings)
    format_kind = format_kinds().get(str(format_given.get("kind")))
    if format_kind is not None:
        yield from typed.build(format_kind.settings, format_given, part.file, base=("format",))[1]
    elif "format" in settings:
        word = repr(format_given.get("kind"))
        yield part.file.problem(("format", "kind"), f"unknown format {word}", did_you_mean(word, format_kinds()))
