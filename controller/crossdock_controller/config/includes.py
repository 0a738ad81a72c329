"""`include: shared/NAME.yaml`: the keys of shared files become defaults of the file that includes them.

Of several, later ones go over earlier ones, and the file's own keys over all. A shared file may include others. Cycles,
depth and size are limited before anything is built; each shared file is put together once, however often it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from crossdock.yamlfile import MAX_VALUES, Path, YamlFile
from crossdock_controller.config import layers
from crossdock_controller.config.errors import Problem
from crossdock_controller.hints import did_you_mean

KEY = "include"
FOLDER = "shared"
MAX_DEPTH = 8  # files that include files
MAX_INCLUDES = 16  # of one file


@dataclass(slots=True)
class Includes:
    """Resolves the includes of a tree's files. *shared* are the files of `shared/`, by path."""

    shared: Mapping[str, YamlFile]
    used: set[str] = field(default_factory=set)  # shared files that some file includes
    _done: dict[str, tuple[YamlFile | None, int]] = field(default_factory=dict)  # ... put together, and how deep
    _problems: list[Problem] = field(default_factory=list)  # of the shared files

    def resolve(self, file: YamlFile) -> tuple[YamlFile, bool]:
        """*file* with what it includes, and whether that could be told: a problem of an included file is told once, by
        `problems`, and whoever includes it is not looked at any further."""
        if not isinstance(file.value, dict) or KEY not in file.value:
            return file, True
        found, _depth, problems = self._resolved(file, ())
        if found is None:
            return replace(layers.without(file, KEY), problems=[*file.problems, *problems]), False
        return found, True

    def problems(self) -> list[Problem]:
        """What is wrong in the shared files, those that nobody includes as well. Ask when all others are resolved."""
        used = set(self.used)
        for name in self.shared:
            self._put_together(name, ())
        unused = [n for n, f in self.shared.items() if n not in used | self.used and not f.problems]
        idle = [Problem(n, 0, "", "no file includes it", "include it, or delete it", 0, "warning") for n in unused]
        return [*self._problems, *idle]

    def _put_together(self, name: str, chain: tuple[str, ...]) -> tuple[YamlFile | None, int]:
        """The shared file *name* with its own includes (None when it has a problem), and how many files deep it is."""
        if name not in self._done:
            shared, found, depth = self.shared[name], None, 1
            if shared.problems or not isinstance(shared.value, dict):
                self._problems += shared.problems or [_no_mapping(shared)]
            elif KEY in shared.value:
                found, depth, problems = self._resolved(shared, chain)
                self._problems += problems
            else:
                found = shared
            self._done[name] = found, depth
        return self._done[name]

    def _resolved(self, file: YamlFile, chain: tuple[str, ...]) -> tuple[YamlFile | None, int, list[Problem]]:
        """*file* over what it includes, None when something is wrong; how deep it is; and what is wrong with it."""
        chain = (*chain, file.name)
        names, problems = self._names(file)
        below, depth, sound = None, 1, not problems
        for path, name in names:
            problem = self._forbidden(file, path, name, chain)
            if problem is not None:
                problems.append(problem)
                continue
            one, deep = self._put_together(name, chain)
            depth = max(depth, deep + 1)
            sound = sound and one is not None
            if one is not None and (below is None or len(below.lines) <= MAX_VALUES):
                below = layers.over(below, one) if below is not None else one
        own = layers.without(file, KEY)
        merged = layers.over(below, own) if below is not None else own
        if depth > MAX_DEPTH + 1:
            problems.append(file.problem((KEY,), f"includes files {depth - 1} deep, the limit is {MAX_DEPTH}"))
        if len(merged.lines) > MAX_VALUES:
            message = f"has more than {MAX_VALUES} values with what it includes"
            problems.append(file.problem((KEY,), message, "split it; include less"))
        return (merged if sound and not problems else None), depth, problems

    def _forbidden(self, file: YamlFile, path: Path, name: str, chain: tuple[str, ...]) -> Problem | None:
        if name not in self.shared:
            return file.problem(path, f"there is no file {name!r}", did_you_mean(name, self.shared))
        self.used.add(name)
        if name in chain:
            ring = " > ".join((*chain[chain.index(name) :], name))
            return file.problem(path, f"includes itself: {ring}", "remove one of these includes")
        if len(chain) > MAX_DEPTH:
            return file.problem(path, f"is included more than {MAX_DEPTH} files deep", "include less deep")
        return None

    def _names(self, file: YamlFile) -> tuple[list[tuple[Path, str]], list[Problem]]:
        """(path, name) of what *file* includes, as far as that is said properly."""
        given = file.value[KEY]
        listed = [((KEY, i), name) for i, name in enumerate(given)] if isinstance(given, list) else [((KEY,), given)]
        if len(listed) > MAX_INCLUDES:
            return [], [file.problem((KEY,), f"names {len(listed)} files, the limit is {MAX_INCLUDES}", "include less")]
        names: list[tuple[Path, str]] = []
        problems: list[Problem] = []
        for path, name in listed:
            if isinstance(name, str) and _is_shared(name):
                names.append((path, name))
            else:
                shown = repr(name) if isinstance(name, str) and len(name) <= 80 else "this"
                problems.append(file.problem(path, f"{shown} is no shared file", f"write {FOLDER}/NAME.yaml"))
        return names, problems


def _is_shared(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and "\\" not in name and ".." not in parts and "." not in parts
    return plain and len(parts) > 1 and parts[0] == FOLDER and name.endswith((".yaml", ".yml"))


def _no_mapping(file: YamlFile) -> Problem:
    found = "is empty" if file.value is None else "does not hold 'key: value' lines"
    return Problem(file.name, 1, "", found, "write the keys that are to be shared, or delete the file")
