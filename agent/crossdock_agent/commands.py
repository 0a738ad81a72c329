"""What a person types: enrol a machine, run it, ask how it is, prove its set-up. Heavy imports are inside commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossdock import __version__
from crossdock.errors import CrossdockError
from crossdock_agent.problems import explain

if TYPE_CHECKING:
    from crossdock_agent.settings import Settings
    from crossdock_agent.status import LimitStatus, Status


class _Group(click.Group):
    """Errors of ours end a command with their sentence and the next step, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CrossdockError as error:
            click.echo(explain(error), err=True)
            ctx.exit(1)


def _with_state(command: Any) -> Any:
    state = click.option(
        "--state", type=click.Path(path_type=Path, file_okay=False), envvar="CROSSDOCK_AGENT_STATE",
        help="Directory of identity, outbox and configuration (default: by operating system).",
    )  # fmt: skip
    config = click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file, TOML or JSON (default: agent.toml in the state directory).",
    )  # fmt: skip
    return state(config(command))


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="crossdock-agent")
def main() -> None:
    """Picks records up beside legacy systems, keeps them through any outage, hands them to the controller."""


@main.command()
@click.option("--token", required=True, envvar="CROSSDOCK_TOKEN", help="What 'crossdock token create' printed.")
@click.option("--wait", default="1h", show_default=True, metavar="TIME", help="For the approval: 90s, 10m, 2h or 0.")
@_with_state
def enroll(token: str, wait: str, state: Path | None, config: Path | None) -> None:
    """Exchange a join token for this machine's identity. The private key is made here and stays here.

    Where the controller's policy wants a person's approval, a short code is shown and waited for.
    """
    from crossdock.lock import SingleInstance
    from crossdock_agent.enrolment import enroll as exchange
    from crossdock_agent.enrolment import seconds_of
    from crossdock_agent.files import give_to_owner, private_directory

    settings = _settings(state, config)
    try:
        private_directory(settings.directory)
    except OSError as error:
        raise CrossdockError(
            f"state directory {settings.directory} cannot be made: {error.strerror}",
            hint="run as its owner, or use --state",
        ) from error
    with SingleInstance(settings.lock_path):
        identity = exchange(token, settings.directory, wait_seconds=seconds_of(wait), say=click.echo)
        give_to_owner(settings.directory)
    click.echo(f"enrolled as agent {identity.agent} at site {identity.site}; now: crossdock-agent run")


@main.command()
@_with_state
def bind(state: Path | None, config: Path | None) -> None:
    """This machine takes the place of the one that its state directory was copied from. Stop the agent there first."""
    from crossdock.lock import SingleInstance
    from crossdock.machine import machine_digest
    from crossdock_agent import binding
    from crossdock_agent.files import give_to_owner
    from crossdock_agent.identity import IdentityStore

    settings = _settings(state, config)
    with SingleInstance(settings.lock_path):
        identity = binding.bind(IdentityStore(settings.directory), machine_digest())
        give_to_owner(settings.directory)
    click.echo(
        f"agent {identity.agent} is this machine's; on the controller 'crossdock agents move {identity.agent}', then "
        "here: crossdock-agent run"
    )


@main.command()
@_with_state
def run(state: Path | None, config: Path | None) -> None:
    """Run the agent until it is told to stop (Ctrl-C, SIGTERM)."""
    from crossdock_agent import app, priority

    settings = _settings(state, config)
    priority.lower(settings.nice)
    app.run(settings, reload=lambda: _settings(state, config))


@main.group()
def service() -> None:
    """For service managers."""


@service.command(name="run")
@_with_state
def service_run(state: Path | None, config: Path | None) -> None:
    """What the Service Control Manager of Windows starts. By hand it is 'crossdock-agent run'."""
    from crossdock_agent import app, priority

    priority.lower(_settings(state, config).nice)
    app.run_as_service(lambda: _settings(state, config))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_with_state
def status(as_json: bool, state: Path | None, config: Path | None) -> None:
    """How the agent on this machine is. Exits 1 when none runs."""
    from crossdock.lock import is_held
    from crossdock_agent.status import read_status

    settings = _settings(state, config)
    running = is_held(settings.lock_path)
    last = read_status(settings.status_path)
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"running": running, "status": last}).decode())
    else:
        click.echo("running" if running else f"not running on {settings.directory}; start it: crossdock-agent run")
        if last is not None:
            _print_status(last)
    sys.exit(0 if running else 1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_with_state
def check(as_json: bool, state: Path | None, config: Path | None) -> None:
    """Prove this site's set-up: reach, certificate, clock, disk, every source. Exits 1 when anything fails."""
    import msgspec

    from crossdock_agent.check import check as findings_of

    found = []
    for finding in findings_of(_settings(state, config)):
        found.append(finding)
        if not as_json:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
            if not finding.ok and finding.hint:
                click.echo(f"      next: {finding.hint}")
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    sys.exit(0 if all(finding.ok for finding in found) else 1)


@main.command()
@click.argument("source")
@click.option("--show", "action", flag_value="show", default=True, help="Print the SQL (the default).")
@click.option("--install", "action", flag_value="install", help="Run it: create or amend the triggers and the log.")
@click.option("--remove", "action", flag_value="remove", help="Drop the triggers, and the log once it is empty.")
@click.option("--status", "action", flag_value="status", help="What is there, and what is amiss.")
@click.option("--discard", is_flag=True, help="With --remove: drop the log with the rows that have not arrived.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_with_state
def changelog(source: str, action: Any, discard: bool, yes: bool, state: Path | None, config: Path | None) -> None:
    """The triggers and the log table of a source in mode change_log."""
    from crossdock_agent.changelog import changelog as lines

    def confirm(question: str) -> bool:
        return yes or click.confirm(question, default=False)

    for line in lines(_settings(state, config), source, action, discard=discard, confirm=confirm):
        click.echo(line.rstrip("\n"))


@main.command()
@click.argument("writer")
@click.option("--install", is_flag=True, help="Run the SQL; without it, it is only printed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_with_state
def receipts(writer: str, install: bool, yes: bool, state: Path | None, config: Path | None) -> None:
    """The table of receipts that a writer into a database needs."""
    from crossdock_agent.receipting import receipts as lines

    def confirm(question: str) -> bool:
        return yes or click.confirm(question, default=False)

    for line in lines(_settings(state, config), writer, install=install, confirm=confirm):
        click.echo(line)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path, file_okay=False), help="Directory to write into.")
def salvage(file: Path, to: Path) -> None:
    """Get the whole batches out of an outbox that was set aside as damaged. Changes nothing and sends nothing."""
    from crossdock_agent.salvage import salvage as lines

    for line in lines(file, to):
        click.echo(line)


@main.command(hidden=True)
@click.argument("task")
def helper(task: str) -> None:
    """Rare heavy work for a running agent: request on stdin, answer on stdout."""
    from crossdock_agent.helper import serve

    sys.stdout.buffer.write(serve(task, sys.stdin.buffer.read()))


@main.command(hidden=True)
def answer() -> None:
    """For a running agent that the centre asks: a line of stdin is the question, stdout the answer."""
    from crossdock_agent import answering

    question = sys.stdin.buffer.readline()
    answering.end_with_the_asker(sys.stdin.fileno())
    sys.stdout.buffer.write(answering.answer(question))


@main.command(name="try")
@click.argument("source", required=False)
@click.option("--from-file", type=click.Path(path_type=Path), help="A source that is not configured yet, YAML or JSON.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Only guess the format of a file to be read.")
@click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", help="For ${NAME} in the file.")
@click.option("--records", default=10, show_default=True, type=click.IntRange(1, 10_000), help="How many to show.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 3600), help="At most so long.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_with_state
def try_source(
    source: str | None, from_file: Path | None, path: Path | None, variables: tuple[str, ...], records: int,
    seconds: float, as_json: bool, state: Path | None, config: Path | None,
) -> None:  # fmt: skip
    """Show the first records of SOURCE and what they suggest. Moves no checkpoint, touches nothing."""
    from crossdock_agent.looking import look_at_file, look_at_source

    if sum(value is not None for value in (source, from_file, path)) != 1:
        raise click.UsageError("name one: SOURCE (of this site), --from-file SOURCE.yaml, or --file PATH")
    if path is not None:
        lines = look_at_file(path, as_json=as_json)
    else:
        given = dict(_pair(text) for text in variables)
        lines = look_at_source(
            _settings(state, config), source, from_file, given, records=records, seconds=seconds, as_json=as_json
        )
    for line in lines:
        click.echo(line)


@main.command()
@click.option("--sqlite", help="Path of a SQLite file.")
@click.option("--odbc", help="ODBC connection string; {secret:NAME} stands for a secret of this site.")
@click.option("--dialect", help="What kind of server --odbc leads to: postgresql, mariadb ...")
@click.option("--source", help="Use the connection of this source of the site.")
@click.option("--table", help="Look at one table or view closely.")
@click.option("--write", type=click.Path(path_type=Path), help="Write a source file for --table to start from.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 3600), help="At most so long.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_with_state
def discover(
    sqlite: str | None, odbc: str | None, dialect: str | None, source: str | None, table: str | None,
    write: Path | None, seconds: float, as_json: bool, state: Path | None, config: Path | None,
) -> None:  # fmt: skip
    """List the tables of a database with their rows, keys and what they could be read by. Reads only."""
    from crossdock_agent.looking import connection_for, look_at_database

    if sum(value is not None for value in (sqlite, odbc, source)) != 1:
        raise click.UsageError("name one: --sqlite PATH, --odbc STRING --dialect NAME, or --source NAME")
    if write is not None and table is None:
        raise click.UsageError("--write needs --table: one file describes one table")
    settings = _settings(state, config)
    connection = connection_for(settings, sqlite, odbc, dialect, source)
    for line in look_at_database(settings, connection, table, write, seconds=seconds, as_json=as_json):
        click.echo(line)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--variable {text!r} has no '='; write NAME=VALUE")
    return name, value


def _settings(state: Path | None, config: Path | None) -> Settings:
    from crossdock_agent.settings import load

    return load(state, config)


def _held(limit: LimitStatus) -> str:
    waits = f", {limit.waiting_bytes / 1e6:.1f} MB wait for it" if limit.waiting_bytes else ""
    so_far = f", {limit.throttled_seconds} s so far" if limit.throttled_seconds else ""
    return (", throttling" if limit.throttling else "") + waits + so_far


def _print_status(status: Status) -> None:
    from datetime import UTC, datetime

    def at(us: int) -> str:
        return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if us else "never"

    click.echo(f"as of       {at(status.written_us)}, process {status.process}, version {status.version}")
    click.echo(
        f"agent       {status.agent} at site {status.site}, configuration revision {status.revision}"
        + (", on probation" if status.on_probation else "")
    )
    click.echo(f"controller  {status.controller}: {status.link} {status.link_error}".rstrip())
    if status.clock_offset_us is not None:
        click.echo(f"clock       {-status.clock_offset_us / 1e6:+.3f} s off the controller's")
    click.echo(f"certificate until {at(status.certificate_expires_us)}")
    click.echo(
        f"outbox      {status.outbox_records} records in {status.outbox_batches} batches, "
        f"{status.outbox_bytes / 1e6:.1f} of {status.outbox_limit_bytes / 1e6:.0f} MB, "
        f"oldest read {at(status.oldest_us)}"
    )
    click.echo(f"forecast    {_forecast(status)}")
    for limit in status.limits:
        click.echo(f"limit       {limit.resource}: {limit.used} of {limit.limit}" + _held(limit))
    for source in status.sources:
        click.echo(
            f"source      {source.source}: {source.state}"
            + (f" since {at(source.blocked_since_us)}" if source.blocked_since_us else "")
            + (f" by {source.throttled_by}" if source.throttled_by else "")
            + (f" since {at(source.paused_since_us)} by {source.paused_by}" if source.paused_since_us else "")
            + f", {source.records} records read, "
            f"{source.pending_records} pending, last read {at(source.last_read_us)}"
            + (f", slowed by its budget for {slowed} s" if (slowed := source.counters.get("throttled_seconds")) else "")
        )
        if source.error:
            click.echo(f"            {source.error}" + (f" ({source.hint})" if source.hint else ""))
    for problem in status.problems:
        click.echo(f"problem     {problem}")


def _forecast(status: Status) -> str:
    """What comes in and goes out, and where that leads."""
    from crossdock_agent.outlook import moment, size

    def rate(per_hour: int | None) -> str:
        return "not known yet" if per_hour is None else f"{size(per_hour)}/h"

    def ahead(at_us: int) -> str:
        return moment(status.written_us, max(0.0, (at_us - status.written_us) / 1e6))

    said = f"in {rate(status.in_bytes_per_hour)}, out {rate(status.out_bytes_per_hour)}"
    if status.fills_at_us:
        return f"{said}; full at about {ahead(status.fills_at_us)}"
    if status.drained_at_us:
        return f"{said}; drained at about {ahead(status.drained_at_us)}"
    return said
