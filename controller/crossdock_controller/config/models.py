"""The files of a tree as frozen models: unknown keys are refused, and every field says what it means and its default.

A source's and a sink's own settings stay plain mappings here: the JSON Schema of the source's kind, and the model of
the sink's kind, own their types.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from crossdock import cron, limits, quiet, siteconfig
from crossdock_controller.config import selection
from crossdock_controller.config.selection import Label, Name, On
from crossdock_controller.documents.base import entities
from crossdock_controller.hints import did_you_mean
from crossdock_controller.sinks.base import SinkSettings
from crossdock_controller.sinks.base import kinds as sink_kinds

VARIABLE_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"

VariableName = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
Lane = siteconfig.Lane

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(value: Any) -> Any:
    """ "10 GiB" as bytes; a number is bytes already. Anything else is left for the model to refuse."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("is not a size; write it like '10 GiB' or '500 MB'")
    return int(float(match[1]) * _UNITS[match[2].upper()])


Size = Annotated[int, BeforeValidator(parse_size)]


def parse_rate(value: Any) -> Any:
    """ "256 KB/s" as bytes a second; a number is that already. Anything else is left for the model to refuse."""
    if not isinstance(value, str):
        return value
    size, _, second = value.partition("/")
    match = _SIZE.fullmatch(size)
    if second.strip() != "s" or match is None or match[2].upper() not in _UNITS:
        raise ValueError("is not a rate; write it like '256 KB/s' or '2 MB/s'")
    return parse_size(size)


def parse_window_rate(value: Any) -> Any:
    """A rate, or `unlimited` as None."""
    return None if value == "unlimited" else parse_rate(value)


def parse_delivery_rate(value: Any) -> Any:
    """ "50/s", "0.5/s" or "100/min" as deliveries a second; anything else is left for the model to refuse."""
    if not isinstance(value, str):
        return value
    match = _PER_TIME.fullmatch(value)
    if match is None:
        raise ValueError("is not a rate of deliveries; write it like '50/s' or '100/min'")
    return float(match[1]) / (60.0 if match[2] == "min" else 1.0)


def _known_kind(name: str) -> str:
    if name not in entities():
        raise ValueError(f"{name!r} is no kind of document; {did_you_mean(name, entities())}")
    return name


_PER_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|min)\s*")
DeliveryRate = Annotated[float, Field(ge=0.001, le=1_000_000), BeforeValidator(parse_delivery_rate)]
DocumentKind = Annotated[str, AfterValidator(_known_kind)]
Rate = Annotated[int, Field(ge=limits.MIN_BYTES_PER_SECOND), BeforeValidator(parse_rate)]
WindowRate = Annotated[Annotated[int, Field(ge=limits.MIN_BYTES_PER_SECOND)] | None, BeforeValidator(parse_window_rate)]


class StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OutboxLimits(StrictModel):
    """When an agent stops reading (the source keeps the data; nothing is dropped), and what it keeps after that."""

    max_bytes: Size = Field(default=10 * 1024**3, ge=1024**2, description="the outbox file grows no further than this")
    min_free_disk_bytes: Size = Field(default=1024**3, ge=0, description="reading stops below this much free disk")
    keep_acknowledged_hours: float = Field(
        default=48.0, ge=0, le=24 * 366,
        description="how long acknowledged batches stay, for a controller restored from a backup; 0: none stays",
    )  # fmt: skip
    keep_acknowledged_bytes: Size | None = Field(
        default=None, ge=0, description="... and how many bytes of them; by default 1 GiB, at most a fifth of max_bytes"
    )


def _sound_hours(text: str) -> str:
    quiet.parse(text)
    return text


class BandwidthWindow(StrictModel):
    """Hours with a limit of their own."""

    hours: Annotated[str, AfterValidator(_sound_hours)] = Field(description="in the zone of the site")
    limit: WindowRate = Field(description="bytes a second, or unlimited")


class Bandwidth(StrictModel):
    """What an agent may send."""

    default: Rate | None = Field(default=None, description="bytes a second outside the windows; unlimited without")
    windows: list[BandwidthWindow] = Field(default=[], description="the first one that lasts counts")

    @model_validator(mode="after")
    def _is_sound(self) -> Bandwidth:
        limits.Bandwidth(
            default=self.default,
            windows=tuple(limits.BandwidthWindow(hours=w.hours, limit=w.limit) for w in self.windows),
        )
        return self


class Limits(StrictModel):
    """How much of its host and its line each agent of the site may use, all its sources together."""

    bandwidth: Bandwidth | None = Field(default=None, description="bytes a second that it sends")
    disk: Rate | None = Field(default=None, description="bytes a second that it writes to its disk")
    disk_idle: bool = Field(default=False, description="the disk serves it only when nobody else asks")
    cpu_percent: float | None = Field(default=None, gt=0, le=100, description="of one core, for the whole process")
    memory: Size | None = Field(
        default=None, ge=limits.MIN_MEMORY_BYTES, description="it holds less and reads slower above it"
    )


class Site(StrictModel):
    """A warehouse or plant: `sites/*.yaml`."""

    site: Name = Field(description="its name, unique; join tokens and agents refer to it")
    labels: dict[Name, Label] = Field(default={}, description="what `on` selects and conditions may ask")
    zone: str = Field(default="UTC", description="IANA time zone of local times in its files and tables")
    outbox: OutboxLimits = Field(default=OutboxLimits(), description="limits of the outbox of each of its agents")
    limits: Limits | None = Field(default=None, description="what each of its agents may use of host and line")
    stop_all: bool = Field(default=False, description="run no source on purpose")
    variables: dict[VariableName, str] = Field(default={}, description="texts for `${name}` in settings of sources")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{zone!r} is not a time zone of the IANA database; write it like 'Europe/Berlin'"
            ) from error
        return zone

    @field_validator("labels")
    @classmethod
    def _site_is_no_label(cls, labels: dict[str, str]) -> dict[str, str]:
        if "site" in labels:
            raise ValueError("every site carries the label 'site' already: its name")
        return labels

    def all_labels(self) -> dict[str, str]:
        """Its labels, and `site` with its name."""
        return {**self.labels, "site": self.site}


def _sound_cron(text: str) -> str:
    cron.parse(text)
    return text


class Schedule(StrictModel):
    """When passes of a source begin. What is sound is said by `crossdock.siteconfig`, which the agent goes by."""

    every_seconds: float | None = Field(default=None, ge=0.05, le=7 * 86400, description="between two passes")
    cron: Annotated[str, AfterValidator(_sound_cron)] | None = Field(
        default=None, description="... or minute, hour, day, month, weekday in the zone of the site"
    )
    jitter_seconds: float | None = Field(
        default=None, ge=0, le=86400, description="each pass begins up to so much off, so that sites do not meet"
    )

    @model_validator(mode="after")
    def _is_sound(self) -> Schedule:
        siteconfig.Schedule(**self.model_dump())
        return self


class Budget(StrictModel):
    """How much of the host and the server a source may use."""

    max_mb_per_second: float | None = Field(default=None, gt=0, le=100_000, description="millions of bytes read")
    max_rows_per_poll: int | None = Field(default=None, ge=1, description="a pass ends after so many; the next goes on")
    cpu_percent: float | None = Field(default=None, gt=0, le=100, description="of one core, for reading and packing")


class Source(StrictModel):
    """A named reader: `sources/*.yaml`. Every other key of the file belongs to the settings of its kind."""

    source: Name = Field(description="its name, unique; mapping and account refer to it")
    on: On = Field(description="labels of the sites it runs at; `{}` is every site")
    kind: str = Field(description="file_drop, sql_table ...")
    lane: Lane = Field(default="standard", description="how urgent its records are: critical, standard or bulk")
    schedule: Schedule | None = Field(default=None, description="when it is read, instead of every poll_seconds")
    quiet: list[Annotated[str, AfterValidator(_sound_hours)]] = Field(
        default=[], description="hours in which no pass begins, in the zone of the site"
    )
    budget: Budget | None = Field(default=None, description="how much it may use")
    settings: dict[str, Any] = {}

    @field_validator("quiet")
    @classmethod
    def _leaves_time(cls, hours: list[str]) -> list[str]:
        quiet.parse_all(hours)
        return hours

    def goes_by_the_clock(self) -> bool:
        """Whether the zone of its site matters to it."""
        return bool(self.quiet) or (self.schedule is not None and self.schedule.cron is not None)

    def runs_at(self, site: Site) -> bool:
        """Whether *site* carries every label of `on` (see `selection`)."""
        return selection.matches(self.on, site.all_labels())


class Writer(StrictModel):
    """Where documents may be written at sites: `writers/*.yaml`. Every other key is a setting of its kind."""

    writer: Name = Field(description="its name, unique; sinks of kind `agent` and the site's own policy refer to it")
    on: On = Field(description="labels of the sites it is at; `{}` is every site")
    kind: str = Field(description="file_drop, sql")
    settings: dict[str, Any] = {}

    def runs_at(self, site: Site) -> bool:
        """Whether *site* carries every label of `on` (see `selection`)."""
        return selection.matches(self.on, site.all_labels())


class Route(StrictModel):
    """A condition and where events that fulfil it go: `routes/*.yaml`."""

    route: Name = Field(description="its name, unique; the file's name without .yaml unless given")
    when: str = Field(default="true", description="a condition in CEL; without it every event matches")
    to: list[Name] = Field(min_length=1, description="names of sinks")


class SinkDef(StrictModel):
    """A named destination: `sinks/*.yaml`. Every other key of the file belongs to the settings of its kind."""

    sink: Name = Field(description="its name, unique; part of the idempotency key, so renaming one makes a new sink")
    kind: str = Field(description="sql, http, file ...")
    retry_hours: float = Field(
        default=48.0, gt=0, le=8760, description="a delivery that the sink puts off for so long becomes a dead letter"
    )
    retry_attempts: int | None = Field(default=None, ge=1, description="... or after so many attempts")
    rate: DeliveryRate | None = Field(
        default=None, description="deliveries a second, like '50/s'; what a second allows may go at once"
    )
    supersede: list[DocumentKind] = Field(
        default=[], description="kinds of document of which only the newest version matters: an older one is not sent"
    )
    ttl_hours: dict[DocumentKind, Annotated[float, Field(gt=0, le=8760)]] = Field(
        default={}, description="by kind of document: an older one becomes a dead letter with the code `expired`"
    )
    versions: dict[DocumentKind, Annotated[int, Field(ge=1, le=1000)]] = Field(
        default={}, description="by kind of document: the version that it takes, whatever is stored"
    )
    settings: dict[str, Any] = {}

    def typed(self) -> SinkSettings:
        """The settings as the model of the kind. Raises pydantic.ValidationError, never for a tree that was loaded."""
        return sink_kinds()[self.kind].settings.model_validate(self.settings)


SOURCE_KEYS = frozenset(Source.model_fields) - {"settings"}
WRITER_KEYS = frozenset(Writer.model_fields) - {"settings"}
SINK_KEYS = frozenset(SinkDef.model_fields) - {"settings"}
