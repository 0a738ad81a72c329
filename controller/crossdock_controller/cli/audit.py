"""`crossdock audit`: who did what, and whether the record is whole."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import Period, data_option, json_option, require_data
from crossdock_controller.cli.output import as_json as plain
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import audit as commands
from crossdock_controller.paths import DataDirectory

_SINCE = click.option("--since", type=Period(), help="Only of this time until now: 1h, 7d.")


@click.group(invoke_without_command=True)
@_SINCE
@click.option("--actor", help="Only of this person: anna, or user:anna, local:anna, controller.")
@click.option("--action", help="Only this: agents.revoke, or all of agents.")
@click.option("--target", help="Only to this: an agent, a revision, a letter's number.")
@click.option(
    "--limit", type=click.IntRange(1, commands.MOST), default=commands.PAGE, show_default=True, help="At most so many."
)
@data_option
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    since: float | None,
    actor: str | None,
    action: str | None,
    target: str | None,
    limit: int,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Who did what, newest first: every change, every reading of payloads, every call that was refused."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    require_data(data)
    found = commands.audit_list(data, since_us=_since_us(since), actor=actor, action=action, target=target, limit=limit)
    if as_json:
        emit({"entries": found})
        return
    _show(found)


@audit.command("verify")
@click.option(
    "--backup", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
    help="Compare with the head in this backup's manifest, too.",
)  # fmt: skip
@json_option
@click.pass_obj
def audit_verify(data: DataDirectory, backup: Path | None, as_json: bool) -> None:
    """Compute the whole chain again, and compare it with its signed heads. Exit code 1 when it does not hold."""
    require_data(data)
    found = commands.audit_verify(data, _witness(backup) if backup is not None else None)
    if as_json:
        emit(found)
    else:
        _judge(found)
    if not found.sound:
        raise click.exceptions.Exit(PROBLEM)


@audit.command("export")
@_SINCE
@click.pass_obj
def audit_export(data: DataDirectory, since: float | None) -> None:
    """Every entry as a line of JSON on stdout, oldest first: to be kept where nobody here can change it."""
    require_data(data)
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    after = 0
    while page := commands.audit_list(data, since_us=_since_us(since), after=after, limit=1000):
        for entry in page:
            click.echo(json.dumps(plain(entry), ensure_ascii=ascii_only))
        after = page[-1].seq


def _since_us(seconds: float | None) -> int:
    return time.time_ns() // 1000 - int(seconds * 1_000_000) if seconds is not None else 0


def _witness(backup: Path) -> commands.Kept:
    from crossdock.errors import ConfigError
    from crossdock_controller.commands.backup import read_manifest

    head = read_manifest(backup).audit
    if head is None:
        raise ConfigError(f"the backup {backup} is older than the audit log", hint="name a newer one")
    return commands.Kept(head.seq, head.hash)


def _show(found: list[commands.AuditEntry]) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import screen, table

    if not found:
        screen().print("There is no such entry.")
        return
    grid = table(">no", "when", "who", "what", "to", "~details")
    for entry in found:
        details = ", ".join(f"{name} {_said(value)}" for name, value in entry.details.items() if value not in ("", []))
        grid.add_row(
            str(entry.seq), words.moment(entry.at_us), Text(entry.actor), entry.action, Text(entry.target or "-"),
            Text(words.shortened(details, 120)),
        )  # fmt: skip
    screen().print(grid)


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _judge(found: commands.Verified) -> None:
    from crossdock_controller.cli.screen import next_steps, screen

    if not found.sound:
        screen().print(f"[bold red]The audit log does not hold:[/] {found.problem}.", soft_wrap=True)
        screen().print(f"Entries 1 to {found.broken - 1:,} are what was written." if found.broken > 1 else "")
        next_steps(
            [
                "keep the data directory as it is",
                "compare with an export or a backup: crossdock audit verify --backup DIR",
            ]
        )
        return
    screen().print(f"[green]The audit log holds:[/] {words.plural(found.entries, 'entry', 'entries')} in one chain.")
    if found.heads:
        left = found.entries - found.covered
        screen().print(
            f"Signed heads: {found.heads:,}; the newest is of entry {found.covered:,}, {words.moment(found.covered_us)}"
            + (f"; {left:,} newer ones have no second witness yet." if left else "."), soft_wrap=True,
        )  # fmt: skip
    else:
        screen().print("[yellow]No signed head stands beside it:[/] entries cut off its end would not be missed.")
    if found.foreign:
        screen().print(f"[yellow]{found.foreign:,} heads were signed by no authority of this controller.[/]")
