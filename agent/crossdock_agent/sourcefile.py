"""A source to look at: from a file that is not in the tree yet, or from the site's last good configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from crossdock import siteconfig
from crossdock.errors import UNREADABLE, ConfigError
from crossdock.siteconfig import SourceConfig
from crossdock_agent.configuration import read_current

_COMMON = ("kind", "lane", "schedule", "quiet", "budget")  # beside the settings of its kind
_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")


def configured(last_good: Path, name: str) -> SourceConfig:
    """Raises ConfigError naming the sources there are."""
    kept = read_current(last_good)
    if kept is None:
        raise ConfigError(
            f"there is no configuration here yet, so no source {name!r}",
            hint="try one from a file: crossdock-agent try --from-file SOURCE.yaml",
        )
    sources = {source.name: source for source in siteconfig.decode(kept.config).sources}
    if name not in sources:
        raise ConfigError(f"this site has no source {name!r}", hint=f"it has {', '.join(sorted(sources)) or 'none'}")
    return sources[name]


def read(path: Path, variables: Mapping[str, str]) -> SourceConfig:
    """The source of a file as it stands in a tree (YAML, or JSON by its suffix), with *variables* for `${name}`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"source file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    given = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
    given = _substituted(given, variables, path)
    name = str(given.pop("source", path.stem))
    given.pop("on", None)
    if "kind" not in given:
        raise ConfigError(f"{path}: 'kind' is missing", hint="file_drop, sql_table ...")
    common = {key: given.pop(key) for key in _COMMON if key in given}
    try:
        return msgspec.convert({"name": name, **common, "settings": given}, type=SourceConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def _yaml(path: Path, text: str) -> dict[str, Any]:
    from crossdock import yamlfile

    file = yamlfile.parse(str(path), text)
    if file.problems:
        raise ConfigError("; ".join(problem.text() for problem in file.problems))
    if not isinstance(file.value, dict):
        raise ConfigError(f"{path} holds no 'key: value' lines", hint="begin with 'source: NAME'")
    return file.value


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE as error:
        raise ConfigError(f"{path}: {error}", hint="it holds one JSON object, as in sources/*.yaml") from error


def _substituted(value: Any, variables: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _substituted(item, variables, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, variables, path) for item in value]
    return _VARIABLE.sub(lambda match: _variable(match, variables, path), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], variables: Mapping[str, str], path: Path) -> str:
    escaped, name = match.groups()
    if escaped:
        return "${" + name + "}"
    if name not in variables:
        raise ConfigError(f"{path} uses ${{{name}}}, a variable of a site", hint=f"give it: --variable {name}=VALUE")
    return variables[name]
