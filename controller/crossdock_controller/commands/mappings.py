"""Tools for whoever writes a mapping: its tests, and what it makes of a file. On a tree or the revision in force;
nothing is stored, and no controller has to run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import connection, facts, revisions

if TYPE_CHECKING:
    from crossdock_controller.config.errors import Problem
    from crossdock_controller.config.load import Loaded
    from crossdock_controller.config.mapping_tests import Tested
    from crossdock_controller.samples.trying import Tried

RECORDS = 100


@dataclass(frozen=True, slots=True)
class TestRun:
    """*problems* are those of the tree itself; with one, nothing was run."""

    tests: tuple[Tested, ...]
    problems: tuple[Problem, ...]

    @property
    def failed(self) -> int:
        return sum(1 for tested in self.tests if tested.problems)


def run_tests(
    data: DataDirectory | None, directory: Path, names: tuple[str, ...] = (), environment: str = ""
) -> TestRun:
    """Run the tests of the tree below *directory*, or those of *names*. Raises ConfigError for a name that none has."""
    from crossdock_controller.config import mapping_tests

    loaded, problems = _tree(data, directory, environment)
    if loaded is None:
        return TestRun((), tuple(problems))
    known = [part.name for part in loaded.tests]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no test {name!r}", hint=did_you_mean(name, known))
    chosen = [part for part in loaded.tests if not names or part.name in names]
    return TestRun(tuple(mapping_tests.run(loaded, chosen, seconds=600.0)), tuple(problems))


def try_file(
    data: DataDirectory | None,
    file: Path,
    mapping: str,
    *,
    site: str = "",
    directory: Path | None = None,
    records: int = RECORDS,
    environment: str = "",
) -> Tried:
    """What the first *records* of *file* become by *mapping* (its name, or that of its source) as at *site*.

    By the tree below *directory*, or the revision in force. Raises ConfigError for what is not there, Refused for a
    file that cannot be cut into records.
    """
    from crossdock_controller.config import mapping_tests
    from crossdock_controller.config.errors import ConfigInvalid
    from crossdock_controller.samples import trying

    loaded, problems = _tree(data, directory, environment) if directory is not None else _in_force(data)
    if loaded is None:
        raise ConfigInvalid(problems)
    source = _source(loaded, mapping)
    sites = mapping_tests.sites_of(loaded, source)
    if site and site not in sites:
        raise ConfigError(f"source {source} does not run at {site!r}", hint=f"it runs at {', '.join(sites[:8])}")
    if not sites:
        raise ConfigError(f"source {source} runs at no site", hint="its 'on' selects none")
    at = site or sites[0]
    made = mapping_tests.engine_of(loaded, source, at)
    if made is None or made[1].kind == "rows":
        raise ConfigError(
            f"source {source} reads no files", hint="try it at the site: crossdock command SITE try --source " + source
        )
    engine, settings = made
    most = trying.limit_bytes(settings)
    with file.open("rb") as stream:
        content = stream.read(most + 1)
    return trying.try_bytes(
        engine, settings, content[:most], name=file.name, source=source, site=at, limit=records,
        more=len(content) > most,
    )  # fmt: skip


def _source(loaded: Loaded, name: str) -> str:
    """The source that the mapping *name* belongs to."""
    if name in loaded.mappings:
        return name
    found = next((source for source, mapping in loaded.mappings.items() if mapping.mapping == name), None)
    if found is None:
        known: Mapping[str, object] = loaded.mappings
        raise ConfigError(f"there is no mapping {name!r}", hint=did_you_mean(name, known))
    return found


def _tree(data: DataDirectory | None, directory: Path, environment: str) -> tuple[Loaded | None, list[Problem]]:
    from crossdock_controller.config import load, tree
    from crossdock_controller.config.errors import errors_of, ordered

    read, problems = tree.read(directory)
    serves = environment or _serves(data)
    if not serves and not environment:
        serves = _only_environment(read)
    loaded, found = load.inspect(read, serves)
    problems = ordered([*problems, *found])
    return (None if errors_of(problems) else loaded), problems


def _only_environment(read: Mapping[str, str]) -> str:
    """The first environment of a tree that has some: without a controller, nobody says which is meant."""
    names = sorted(name for name in read if name.startswith("environments/"))
    return names[0].removeprefix("environments/").rpartition(".")[0] if names else ""


def _serves(data: DataDirectory | None) -> str:
    if data is None or not data.state.exists():
        return ""
    with closing(connection.connect(data.state)) as db:
        return facts.environment(db)


def _in_force(data: DataDirectory | None) -> tuple[Loaded | None, list[Problem]]:
    from crossdock_controller.config import load

    if data is None or not data.state.exists():
        raise ConfigError("no revision is in force here", hint="name a tree: --config DIR")
    with closing(connection.connect(data.state)) as db:
        found = revisions.head(db)
    if found is None:
        raise ConfigError("no revision is in force here", hint="name a tree: --config DIR")
    return load.inspect(found[1])
