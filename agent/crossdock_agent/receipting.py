"""`crossdock-agent receipts WRITER`: show, and where asked install, the table of receipts that a writer into a database
needs. The writer is one of the configuration that this agent runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.secrets import Secrets
from crossdock_agent.configuration import read_current
from crossdock_agent.pump import wall_us
from crossdock_agent.settings import Settings
from crossdock_agent.writers import base
from crossdock_agent.writers.receipts import statements


def receipts(settings: Settings, writer: str, *, install: bool, confirm: Callable[[str], bool]) -> Iterator[str]:
    """Lines for the person who asked; *confirm* is asked before anything is changed. Raises CrossdockError."""
    from crossdock_agent.writers.sql import SqlWriter

    made = _writer(settings, writer)
    assert isinstance(made, SqlWriter)  # noqa: S101 - by its kind
    table = made.settings.receipts
    dialect = made.settings.connection.dialect or "sqlite"
    script = ";\n".join(statements(dialect, table)) + ";"
    with closing(made.connect()) as database:
        if database.catalog(table) is not None:
            yield f"the table {table} is there"
            return
        yield script
        if not install or not confirm(f"run this on the database of {writer}?"):
            yield "-- nothing was changed; '--install' runs just this"
            return
        with database.transaction():
            for statement in statements(dialect, table):
                database.execute(statement)
    yield f"the table {table} is installed"


def _writer(settings: Settings, name: str) -> base.Writer:
    kept = read_current(settings.config_path)
    if kept is None:
        raise ConfigError(
            "this agent has no configuration yet", hint="'crossdock apply' on the controller, then run the agent once"
        )
    known = [w for w in siteconfig.decode(kept.config).writers if w.kind == "sql"]
    for config in known:
        if config.name == name:
            secret = Secrets(settings.directory).resolve
            context = base.WriterContext(name, lambda _key: None, secret, wall_us)
            return base.build(config.kind, config.settings, context)
    names = ", ".join(sorted(w.name for w in known)) or "none"
    raise ConfigError(f"no writer {name} of kind sql is here", hint=f"there are: {names}")
