"""`crossdock mapping diff`: what a proposed mapping would make of history, for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock.errors import ConfigError
from crossdock_controller.cli import words
from crossdock_controller.cli.options import Period, actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import preview as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.model import MOST_CHANGES, SHOWN_CHANGES

if TYPE_CHECKING:
    from crossdock_controller.preview.model import DocumentChange, FieldChange

SHOWN_FIELDS = 15
VALUE_CHARACTERS = 40


@click.command("diff")
@click.argument("proposed", metavar="DIR|REV")
@click.option("--last", type=Period(), default="24h", show_default=True, help="Over what came in so lately.")
@click.option("--source", metavar="NAME", help="Of one source only.")
@click.option("--site", metavar="NAME", help="Of one site only.")
@click.option("--all", "everything", is_flag=True, help=f"Every document, at most {MOST_CHANGES:,}.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, commands.MOST_SECONDS), default=commands.SECONDS, show_default=True,
    help="End after so long, and say what was not looked at.",
)  # fmt: skip
@data_option
@json_option
def diff(
    proposed: str,
    last: float,
    source: str | None,
    site: str | None,
    everything: bool,
    seconds: float,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """What the mappings of DIR, of a revision or of a proposal (p3) would make of records that came in before, beside
    what the ones in force make of them. Nothing is changed; the controller runs on undisturbed.
    """
    require_data(data)
    from crossdock_controller.cli.screen import working

    now_us = time.time_ns() // 1000
    changes = MOST_CHANGES if everything else SHOWN_CHANGES
    if "/" in proposed or "\\" in proposed:
        from pathlib import Path

        if not Path(proposed).is_dir():
            raise ConfigError(f"{proposed} is not a directory", hint="name a tree, a revision, or p3 for a proposal")
    with working("looking at history"):
        found = commands.preview(
            data, proposed, now_us - int(last * 1_000_000), by=actor(), now_us=now_us, source=source, site=site,
            changes=changes, seconds=seconds,
        )  # fmt: skip
    if as_json:
        emit(found)
        return
    _show(found)


def _show(found: commands.Preview) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import next_steps, number, screen, table

    grid = table("source", ">records", ">same", ">changed", ">added", ">removed", ">newly dead", ">healed", ">dead")
    for entry in found.sources:
        grid.add_row(
            f"{entry.source} at {entry.site}", number(entry.records), number(entry.unchanged),
            number(entry.changed, "yellow"), number(entry.added, "green"), number(entry.removed, "red"),
            number(entry.newly_dead, "bold red"), number(entry.newly_healed, "green"), number(entry.dead_after),
        )  # fmt: skip
    if found.sources:
        screen().print(grid)
    else:
        screen().print(f"The intake keeps nothing since {words.moment(found.since_us)}.")
    for counted in found.fields[:SHOWN_FIELDS]:
        sample = f": {_change(counted.samples[0])}" if counted.samples else ""
        title = f"{counted.document}.{counted.field}"
        told = f"in {words.plural(counted.count, 'document')}{sample}"
        screen().print(plain(title, "bold"), plain(told), soft_wrap=True)
    if len(found.fields) > SHOWN_FIELDS:
        screen().print(f"[dim]and {len(found.fields) - SHOWN_FIELDS} more fields: --json shows all[/]")
    for change in found.changes:
        _show_change(change)
    if found.more > 0:
        screen().print(f"[dim]and {found.more:,} more documents: --all shows them[/]")
    for problem in found.problems:
        screen().print("[bold red]problem[/]", plain(problem), soft_wrap=True)
    _show_limits(found)
    if found.sources:
        next_steps(["crossdock apply DIR, then for what came before: crossdock mapping replay --source NAME --dry-run"])


def _show_limits(found: commands.Preview) -> None:
    from crossdock_controller.cli.screen import screen

    waiting = sum(entry.open for entry in found.sources)
    unread = sum(entry.unread for entry in found.sources)
    if waiting:
        screen().print(f"[dim]{waiting:,} records belong to a group that has not ended[/]")
    if unread:
        screen().print(f"[yellow]![/] {unread:,} records are in batches that could not be mapped or opened")
    if found.left:
        screen().print(f"[yellow]![/] {found.left:,} records were not looked at: give more --seconds")
    total = sum(entry.records for entry in found.sources)
    screen().print(f"[dim]{total:,} records by {found.proposed} in {found.seconds:.1f} s[/]")


def _show_change(change: DocumentChange) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import screen

    mark, colour = {
        "added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red"), "newly dead": ("x", "bold red"),
        "newly healed": ("+", "green"),
    }[change.kind]  # fmt: skip
    told = f"{change.document} {change.key} {change.kind}"
    screen().print(
        f"[{colour}]{mark}[/]", plain(told), plain(f"{change.where} at {change.site}", "dim"), soft_wrap=True
    )
    if change.reason:
        screen().print("     ", plain(change.reason), soft_wrap=True)
    for field in change.fields:
        screen().print("     ", plain(f"{field.field} {_change(field)}"), soft_wrap=True)


def _change(change: FieldChange) -> str:
    return f"{_short(change.before)} → {_short(change.after)}"


def _short(text: str | None) -> str:
    if text is None:
        return "(nothing)"
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"
