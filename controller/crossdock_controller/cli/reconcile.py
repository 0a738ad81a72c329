"""`crossdock reconcile NAME [--now]` and `crossdock reconcile list`: do two systems agree?"""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import reconcile as commands
from crossdock_controller.paths import DataDirectory

ITEMS_SHOWN = 40


@click.command()
@click.argument("name")
@click.option("--now", is_flag=True, help="Compare now, whatever the schedule says.")
@click.option("--accept", is_flag=True, help="Compare now, and believe both sides whatever the brake says.")
@data_option
@json_option
def reconcile(name: str, now: bool, accept: bool, data: DataDirectory, as_json: bool) -> None:
    """What two systems do not agree on, by the last comparison or by one made now.

    \b
      crossdock reconcile list
      crossdock reconcile stock --now

    Exit code 1 when they do not agree.
    """
    require_data(data)
    now_us = time.time_ns() // 1000
    if name == "list":
        _list(commands.reconcile_list(data), as_json, now_us)
        return
    from crossdock_controller.cli.screen import working

    with working("comparing"):
        found = commands.reconcile(data, name, now=now or accept, accept=accept, by=actor(), now_us=now_us)
    if as_json:
        emit(found)
    else:
        _show(found, now_us)
    if found.reconciliation.open:
        raise click.exceptions.Exit(PROBLEM)


def _list(found: list[commands.Listed], as_json: bool, now_us: int) -> None:
    from crossdock_controller.cli.screen import next_steps, number, screen, table

    if as_json:
        emit({"reconciliations": found})
        return
    if not found:
        screen().print("No reconciliations: reconciliations/NAME.yaml makes one.")
        return
    grid = table("name", "document", "~between", "schedule", "last", ">open", "~problem")
    for row in found:
        last = words.ago(row.last.ran_us, now_us) if row.last is not None else "never"
        problem = row.last.problem if row.last is not None else ""
        grid.add_row(
            row.name, row.document, f"{row.left} and {row.right}", f"{row.schedule} {row.zone}", last,
            number(row.open, "bold red"), problem,
        )  # fmt: skip
    screen().print(grid)
    next_steps([f"crossdock reconcile {row.name}" for row in found if row.open][:3])


def _show(found: commands.Result, now_us: int) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen

    row, last = found.reconciliation, found.reconciliation.last
    screen().print(Text.assemble((row.name, "bold"), f" · {row.document} of {row.left} and {row.right}"))
    if last is None or not last.ran_us:
        screen().print(Text("  not compared yet", style="dim"))
        next_steps([f"crossdock reconcile {row.name} --now"])
        return
    screen().print(
        Text(
            f"  {words.ago(last.ran_us, now_us)}: {words.count(last.left)} and {words.count(last.right)} documents,"
            f" {words.count(last.different)} differ, {words.count(last.missing_left)} missing in {row.left},"
            f" {words.count(last.missing_right)} missing in {row.right}, {words.count(last.young)} too young"
        ),
        soft_wrap=True,
    )
    if last.problem:
        screen().print(Text(f"  {last.problem}", style="bold red"), soft_wrap=True)
        next_steps([f"when both sides are right as they are: crossdock reconcile {row.name} --accept"])
    for item in found.items[:ITEMS_SHOWN]:
        screen().print(Text(f"  {item.title}  since {words.ago(item.opened_us, now_us)}"), soft_wrap=True)
    if row.open > ITEMS_SHOWN:
        screen().print(Text(f"  and {words.count(row.open - ITEMS_SHOWN)} more: --json shows them", style="dim"))
    if not row.open:
        screen().print("[green]Both agree.[/]")
