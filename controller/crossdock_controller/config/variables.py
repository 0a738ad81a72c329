"""`${name}` in a source's settings becomes that site's text: one source file serves sites whose paths differ.

Only texts are substituted, never keys, and a substituted text is not looked at again. `${site}` is the site's name.
`$${name}` is the text `${name}` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from crossdock.yamlfile import Path
from crossdock_controller.config.models import Site
from crossdock_controller.hints import did_you_mean

_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)\}")
_UNCLOSED = re.compile(r"(?<!\$)\$\{[^}]*$")


def values_of(site: Site) -> dict[str, str]:
    """What may be referred to at *site*."""
    return {**site.variables, "site": site.site}


def uses_variables(value: Any) -> bool:
    return any("${" in text for _, text in _texts(value, ()))


def substitute(value: Any, values: Mapping[str, str]) -> Any:
    """*value* with every reference replaced; a reference to nothing stays as it is (see `unknown`)."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda m: _replacement(m, values), value)
    if isinstance(value, dict):
        return {key: substitute(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, values) for item in value]
    return value


def unknown(value: Any, values: Mapping[str, str]) -> Iterator[tuple[Path, str, str]]:
    """(path, message, hint) for every reference in *value* that *values* do not have."""
    for path, text in _texts(value, ()):
        for escape, name in _REFERENCE.findall(text):
            if not escape and name not in values:
                yield path, f"unknown variable ${{{name}}}", did_you_mean(name, values)
        if _UNCLOSED.search(text):
            yield path, "a variable is opened with '${' and not closed", "write ${name}, or $${ for the two characters"


def _replacement(match: re.Match[str], values: Mapping[str, str]) -> str:
    escape, name = match.groups()
    return match[0][1:] if escape else values.get(name, match[0])


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, (*path, i))
