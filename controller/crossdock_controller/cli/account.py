"""`crossdock account`: the proof, as a table whose last line is the verdict."""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import account as commands
from crossdock_controller.paths import DataDirectory

_ALWAYS = ("in_", "delivered", "pending", "dead")
_IF_ANY = ("held", "superseded", "discarded", "ignored", "duplicates", "unrouted")
_STYLES = {"pending": "yellow", "held": "yellow", "dead": "bold red", "delivered": "green"}


@click.command()
@data_option
@json_option
def account(data: DataDirectory, as_json: bool) -> None:
    """Every record accounted for: in = delivered + superseded + pending + held + dead + discarded, per source.

    Records that a mapping ignores, that were read twice or that no route wants have columns of their own. Exit code 1
    when the account does not balance.
    """
    require_data(data)
    from crossdock_controller.cli.screen import working

    with working("counting"):
        found = commands.account(data, time.time_ns() // 1000)
    if as_json:
        emit(found)
    else:
        show(found)
    if not found.balanced:
        raise click.exceptions.Exit(PROBLEM)


def show(found: commands.Account) -> None:
    """The table and its verdict on the screen."""
    from crossdock_controller.cli.screen import next_steps, number, screen, table

    if not found.sources:
        screen().print("No record has arrived yet.")
        return
    total = found.total
    columns = [c for c in (*_ALWAYS[:3], *_IF_ANY[:1], _ALWAYS[3], *_IF_ANY[1:]) if c in _ALWAYS or getattr(total, c)]
    grid = table("source", "site", *(f">{c.rstrip('_')}" for c in columns))
    for line in found.sources:
        grid.add_row(line.source, line.site, *(number(getattr(line, c), _STYLES.get(c, "")) for c in columns))
    if len(found.sources) > 1:
        grid.add_section()
        grid.add_row("all", "", *(number(getattr(total, c), _STYLES.get(c, "")) for c in columns), style="bold")
    screen().print(grid)
    if found.outbox_records:
        waiting = words.plural(found.outbox_records, "record")
        screen().print(f"[dim]and {waiting} in the outboxes of the sites, not counted as in yet[/]")
    screen().print(verdict(found))
    steps = []
    if total.dead:
        steps.append("crossdock dead list shows why, and what was in them")
    if total.unrouted:
        steps.append("no route wants some records: add one to routes/, or leave them out in the mapping")
    if not found.balanced:
        steps.append("keep the data directory as it is and report this: it must never happen")
    next_steps(steps)


def verdict(found: commands.Account) -> str:
    """ "lost 0 · doubled 0 · balanced", with markup."""

    def coloured(word: str, n: int) -> str:
        colour = "bold red" if n else "green"
        return f"[{colour}]{word} {words.count(n)}[/]"

    balance = "[bold green]balanced[/]" if found.balanced else "[bold red]unbalanced[/]"
    return f"{coloured('lost', found.lost)} · {coloured('doubled', found.doubled)} · {balance}"
