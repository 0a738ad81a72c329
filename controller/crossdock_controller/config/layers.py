"""One YAML file over others: mappings are merged key by key, anything else above replaces what is below it.

The result still knows where each value is written, so that a problem points to the file and line a person must edit.
"""

from __future__ import annotations

from typing import Any

from crossdock.yamlfile import Path, YamlFile


def over(below: YamlFile, above: YamlFile) -> YamlFile:
    """*above* with the keys of *below* as its defaults; it keeps the name and the problems of *above*.

    Both values must be mappings. Neither is changed; parts of both are shared with the result.
    """
    replaced: set[Path] = set()
    value = _merge(below.value, above.value, (), replaced)
    lines, origins = {}, {}
    for path, mark in below.lines.items():
        if not replaced or not any(path[:n] in replaced for n in range(len(path) + 1)):
            lines[path], origins[path] = mark, below.origins.get(path, below.name)
    for path, mark in above.lines.items():
        lines[path] = mark
        origins[path] = above.origins.get(path, above.name)
    kept = {path: name for path, name in origins.items() if name != above.name}
    return YamlFile(above.name, value, lines, above.problems, kept)


def without(file: YamlFile, key: str) -> YamlFile:
    """*file* without its top-level *key*."""
    value = {k: v for k, v in file.value.items() if k != key}
    lines = {path: mark for path, mark in file.lines.items() if path[:1] != (key,)}
    origins = {path: name for path, name in file.origins.items() if path[:1] != (key,)}
    return YamlFile(file.name, value, lines, file.problems, origins)


def only(file: YamlFile, keys: tuple[str, ...], name: str) -> YamlFile:
    """The top-level *keys* of *file*, as defaults of the file *name*."""
    value = {k: v for k, v in file.value.items() if k in keys}
    lines = {path: mark for path, mark in file.lines.items() if path[:1] and path[0] in keys}
    origins = {path: file.origins.get(path, file.name) for path in lines}
    return YamlFile(name, value, lines, [], origins)


def _merge(below: Any, above: Any, path: Path, replaced: set[Path]) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        replaced.add(path)
        return above
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merge(below[key], value, (*path, key), replaced) if key in below else value
    return merged
