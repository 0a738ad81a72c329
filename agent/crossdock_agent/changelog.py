"""`crossdock-agent changelog SOURCE`: show, install, look at and remove the triggers and the log of one source.

The source is one of the configuration this agent runs, so nothing has to be typed twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

import msgspec

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.lifecycle import Stop
from crossdock.secrets import Secrets
from crossdock_agent.check import NoMemory
from crossdock_agent.configuration import read_current
from crossdock_agent.pump import wall_us
from crossdock_agent.settings import Settings
from crossdock_agent.sources.base import Counters, SourceContext
from crossdock_agent.sql import installing
from crossdock_agent.sql.settings import SqlTableSettings

Action = Literal["show", "install", "remove", "status"]


def changelog(
    settings: Settings, source: str, action: Action, *, discard: bool, confirm: Callable[[str], bool]
) -> Iterator[str]:
    """Lines for the person who asked; *confirm* is asked before anything is changed. Raises CrossdockError."""
    table = _settings(settings, source)
    secrets = Secrets(settings.directory)
    context = SourceContext(source, NoMemory(), Counters(), Stop(), secrets.resolve, time.monotonic, wall_us)
    state = installing.look(table, context)
    if action == "show":
        yield from _show(state)
    elif action == "status":
        with closing(installing.connect_installer(table, context)) as database:
            for finding in installing.findings(database, table):
                yield f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}"
                if finding.hint:
                    yield f"      next: {finding.hint}"
        if state.is_whole and not state.is_current:
            yield "the SQL that amends it:"
            yield state.script()
    elif action == "install":
        yield from _install(table, context, state, confirm)
    else:
        yield from _remove(table, context, state, discard=discard, confirm=confirm)


def _show(state: installing.State) -> Iterator[str]:
    if state.is_current:
        yield f"-- the change log of {state.plan.table} is installed and current; this removes it:"
        yield state.removal()
        return
    what = "amends" if state.exists else "installs"
    yield f"-- {what} the change log of {state.plan.table}; 'changelog SOURCE --install' runs just this"
    yield state.script()


def _install(
    table: SqlTableSettings, context: SourceContext, state: installing.State, confirm: Callable[[str], bool]
) -> Iterator[str]:
    if state.is_current:
        yield f"the change log of {table.table} is installed and current"
        return
    yield state.script()
    if not confirm(f"run this on the database of {context.name}?"):
        yield "nothing was changed"
        return
    with closing(installing.connect_installer(table, context)) as database:
        for finding in installing.findings(database, table):
            if finding.name == "key":
                raise ConfigError(finding.detail, hint=finding.hint)
        after = installing.install(database, table)
    if not after.is_current:
        raise ConfigError(
            f"the change log of {table.table} is not what it should be after the installation",
            hint="may the login see the triggers it makes? See 'changelog SOURCE --status'",
        )
    yield f"the change log of {table.table} is installed"


def _remove(
    table: SqlTableSettings,
    context: SourceContext,
    state: installing.State,
    *,
    discard: bool,
    confirm: Callable[[str], bool],
) -> Iterator[str]:
    if not state.exists and not state.installed:
        yield f"there is no change log of {table.table}"
        return
    yield state.removal()
    if not confirm(f"remove the change log of {table.table}? Changes are no longer seen then"):
        yield "nothing was changed"
        return
    with closing(installing.connect_installer(table, context)) as database:
        left = installing.remove(database, table, discard=discard)
    if left:
        yield f"the triggers are removed; {state.plan.log} stays, because {left} rows of it have not arrived yet"
        yield "      next: let the agent run until it is empty, then again; or give them up with --discard"
    else:
        yield f"the change log of {table.table} is removed"


def _settings(settings: Settings, source: str) -> SqlTableSettings:
    kept = read_current(settings.config_path)
    if kept is None:
        raise ConfigError(
            "this agent has no configuration yet", hint="'crossdock apply' on the controller, then run the agent once"
        )
    names = []
    for config in siteconfig.decode(kept.config).sources:
        if config.kind == "sql_table" and config.settings.get("mode") == "change_log":
            if config.name == source:
                try:
                    return msgspec.convert(config.settings, type=SqlTableSettings)
                except msgspec.ValidationError as error:
                    raise ConfigError(f"source {source}: {error}") from error
            names.append(config.name)
    raise ConfigError(
        f"no source {source} of mode change_log runs here", hint=f"there are: {', '.join(sorted(names)) or 'none'}"
    )
