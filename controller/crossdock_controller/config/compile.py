"""A site's part of the configuration: its own sources, with its own variables, and nothing of any other site.

The same tree gives the same bytes: agents compare digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from crossdock import limits, siteconfig
from crossdock_controller.config import models
from crossdock_controller.formats.base import FormatSettings
from crossdock_controller.formats.base import kinds as format_kinds

if TYPE_CHECKING:
    from crossdock_controller.config.load import Loaded

ROWS_FORMAT: dict[str, Any] = {"kind": "rows"}  # a table's rows come typed; there is nothing to set


def site_config(loaded: Loaded, site: str, revision: int) -> bytes:
    """What agents of *site* get for *revision*, unsigned. Raises KeyError for a site that *loaded* does not have.

    A site that no source selects gets an empty list, which an agent refuses (and reports) unless it says `stop_all`.
    """
    model = loaded.sites[site]
    sources = [] if model.stop_all else loaded.sources_at(site)
    writers = [] if model.stop_all else loaded.writers_at(site)
    limited = _limits(model.limits)
    return siteconfig.encode(
        siteconfig.SiteConfig(
            site=site,
            revision=revision,
            sources=[
                siteconfig.SourceConfig(
                    name=source.source,
                    kind=source.kind,
                    lane=source.lane,
                    settings=loaded.settings_at(site, source.source) or {},
                    schedule=siteconfig.Schedule(**source.schedule.model_dump()) if source.schedule else None,
                    quiet=tuple(source.quiet),
                    budget=siteconfig.Budget(**source.budget.model_dump()) if source.budget else None,
                )
                for source in sources
            ],
            outbox=siteconfig.OutboxConfig(**model.outbox.model_dump()),
            stop_all=model.stop_all,
            zone=model.zone if _goes_by_the_clock(sources, limited) else "UTC",
            limits=limited,
            writers=tuple(siteconfig.WriterConfig(name=w.writer, kind=w.kind, settings=given) for w, given in writers),
        )
    )


def _limits(model: models.Limits | None) -> limits.Limits | None:
    """None for limits that limit nothing: an agent of an older release goes on reading its part."""
    if model is None:
        return None
    found = msgspec.convert(model.model_dump(exclude_none=False), type=limits.Limits)
    return found if found != limits.Limits() else None


def _goes_by_the_clock(sources: list[models.Source], limited: limits.Limits | None) -> bool:
    return any(s.goes_by_the_clock() for s in sources) or (limited is not None and limited.goes_by_the_clock)


def format_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The format of a source's records as written: its `format`, or that of rows for a source without one (a table)."""
    given = settings.get("format", ROWS_FORMAT)
    return dict(given) if isinstance(given, dict) else {}


def typed_format(settings: Mapping[str, Any]) -> FormatSettings | None:
    """The same as the model of its kind; None when it is not sound (never for a tree that was loaded)."""
    given = format_settings(settings)
    kind = format_kinds().get(str(given.get("kind")))
    try:
        return kind.settings.model_validate(given) if kind is not None else None
    except ValidationError:
        return None
