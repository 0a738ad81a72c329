"""The use cases behind `try` and `discover`: where settings come from, what is looked at, how it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from crossdock.errors import ConfigError
from crossdock.secrets import Secrets
from crossdock.siteconfig import SourceConfig
from crossdock_agent import discovery, shapes, sourcefile, trial, trial_text
from crossdock_agent.guessing import files
from crossdock_agent.pump import wall_us
from crossdock_agent.settings import Settings

LOOKED_AT_BYTES = 256 * 1024  # of a file


def look_at_source(
    settings: Settings, name: str | None, file: Path | None, variables: Mapping[str, str],
    *, records: int, seconds: float, as_json: bool,
) -> Iterator[str]:  # fmt: skip
    """The source called *name* in the last good configuration, or the one in *file*."""
    config = (
        sourcefile.read(file, variables)
        if file is not None
        else sourcefile.configured(settings.config_path, name or "")
    )
    if "directory" in config.settings and "format" not in config.settings:
        yield from _first_file(config, as_json=as_json)
        return
    secret = Secrets(settings.directory).resolve
    found = trial.attempt(config, secret, wall_us, records=records, seconds=seconds)
    yield from [_json(found)] if as_json else trial_text.of_trial(found, config.settings)


def answer(
    settings: Settings, name: str, *, records: int, seconds: float, values: bool
) -> tuple[list[str], Any]:  # fmt: skip
    """The same for a person and for a program; without *values*, they are shown by their shape."""
    config = sourcefile.configured(settings.config_path, name)
    if "directory" in config.settings and "format" not in config.settings:
        raise ConfigError(f"source {name} has no 'format' yet", hint="try it at the site: crossdock-agent try")
    found = trial.attempt(config, Secrets(settings.directory).resolve, wall_us, records=records, seconds=seconds)
    if not values:
        found = shapes.of_trial(found)
    return list(trial_text.of_trial(found, config.settings)), msgspec.to_builtins(found)


def _first_file(config: SourceConfig, *, as_json: bool) -> Iterator[str]:
    """A source that lacks only its `format` is what a person has who wants to know it."""
    directory, pattern = Path(str(config.settings["directory"])), str(config.settings.get("pattern", "*"))
    try:
        files = sorted(item for item in directory.iterdir() if item.is_file() and fnmatchcase(item.name, pattern))
    except OSError as error:
        raise ConfigError(f"{directory} cannot be read: {error.strerror or error}") from error
    if not files:
        raise ConfigError(
            f"source {config.name} has no 'format', and there is no file {pattern} in {directory} to guess it from",
            hint="write 'format', or name a file: crossdock-agent try --file PATH",
        )
    if not as_json:
        yield f"source {config.name} has no 'format' yet; this is what {files[0].name} looks like"
    yield from look_at_file(files[0], as_json=as_json)


def look_at_file(path: Path, *, as_json: bool) -> Iterator[str]:
    """Guesses for a file that no source describes yet."""
    try:
        with path.open("rb") as file:
            data = file.read(LOOKED_AT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    found = files.guess(data[:LOOKED_AT_BYTES], whole=len(data) <= LOOKED_AT_BYTES)
    yield from [_json(found)] if as_json else trial_text.of_file(found, {})


def connection_for(
    settings: Settings, sqlite: str | None, odbc: str | None, dialect: str | None, source: str | None
) -> dict[str, Any]:
    """As in a source's settings. Raises ConfigError when *source* has none."""
    if sqlite is not None:
        return {"sqlite": Path(sqlite).absolute().as_posix()}  # the agent runs in another directory
    if odbc is not None:
        return {"odbc": odbc, "dialect": dialect} if dialect else {"odbc": odbc}
    connection = sourcefile.configured(settings.config_path, source or "").settings.get("connection")
    if not isinstance(connection, dict):
        raise ConfigError(f"source {source} has no database connection", hint="name one that has, or use --odbc")
    return connection


def look_at_database(
    settings: Settings, connection: Mapping[str, Any], table: str | None, write: Path | None,
    *, seconds: float, as_json: bool,
) -> Iterator[str]:  # fmt: skip
    """All tables, or *table* closely; then *write* gets a source file to start from, unless there is one."""
    with discovery.Discovery(connection, Secrets(settings.directory).resolve, wall_us, seconds) as looking:
        if table is None:
            found = looking.all()
            yield from [_json(found)] if as_json else trial_text.of_list(found.tables, found.details)
            yield from () if as_json else (f"note: {said}" for said in found.skipped)
            return
        one = looking.one(table)
    yield from [_json(one)] if as_json else trial_text.of_survey(one)
    if write is not None:
        said = _write(write, discovery.source_file(one, connection))
        yield from () if as_json else [said]


def _write(path: Path, text: str) -> str:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already", hint="name another file, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    return f"written: {path}; next: crossdock-agent try --from-file {path}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
