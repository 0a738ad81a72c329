"""`crossdock exceptions list|show|assign|note|fix|retry|resolve`: by cause, so that one fix clears all it concerns."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, assignments, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import exceptions as commands
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.exceptions import Group, Step

TITLE_CHARACTERS = 160
REASON_CHARACTERS = 400  # of a refusal, which ends with what would do


@click.group()
def exceptions() -> None:
    """What somebody has to look at, by cause: whose it is, until when, and the way to settle all of it at once."""


@exceptions.command("list")
@click.option("--mine", is_flag=True, help="Of your teams, and assigned to you.")
@click.option("--overdue", is_flag=True, help="Past their time only.")
@click.option("--site", default="", metavar="NAME", help="Of one site only.")
@click.option("--document", default="", metavar="KIND", help="About one kind of document only.")
@data_option
@json_option
def exceptions_list(mine: bool, overdue: bool, site: str, document: str, data: DataDirectory, as_json: bool) -> None:
    """Open exceptions by cause; what is due first comes first."""
    require_data(data)
    now_us = _now_us()
    found = commands.exceptions_list(
        data, mine=mine, overdue=overdue, site=site, document=document, by=actor(), now_us=now_us
    )
    if as_json:
        emit({"exceptions": found})
        return
    _show_list(found, now_us)


@exceptions.command("show")
@click.argument("cause")
@data_option
@json_option
def exceptions_show(cause: str, data: DataDirectory, as_json: bool) -> None:
    """One cause: its items, and what was done about it. How its name begins will do."""
    require_data(data)
    now_us = _now_us()
    found = commands.exceptions_show(data, cause, by=actor(), now_us=now_us)
    if as_json:
        emit(found)
        return
    _show_one(found, now_us)


@exceptions.command("assign")
@click.argument("cause")
@click.argument("to", required=False)
@click.option("--due", metavar="TIME", help="Until when: 4h, 2d, or 2026-12-24 or '2026-12-24 16:00'.")
@click.option("--nobody", is_flag=True, help="Back to the team whose it is by its rule.")
@data_option
@json_option
def exceptions_assign(
    cause: str, to: str | None, due: str | None, nobody: bool, data: DataDirectory, as_json: bool
) -> None:
    """Make a cause somebody's: a user's or a team's.

    \b
      crossdock exceptions assign bad_decimal:wms-shipments anna --due 4h
    """
    require_data(data)
    if nobody and to:
        raise click.UsageError("name somebody or give --nobody, not both")
    now_us = _now_us()
    due_us = _due(due, now_us) if due else None
    found = commands.exceptions_assign(data, cause, "" if nobody else to, due_us, by=actor(), now_us=now_us)
    if as_json:
        emit(found)
        return
    click.echo(f"{found.cause}: {found.owner or 'nobody'}, due {_when(found.due_us, now_us)}")


@exceptions.command("note")
@click.argument("cause")
@click.argument("text")
@data_option
def exceptions_note(cause: str, text: str, data: DataDirectory) -> None:
    """Keep a word beside a cause, for whoever looks next."""
    require_data(data)
    commands.exceptions_note(data, cause, text, by=actor(), now_us=_now_us())
    click.echo("noted")


@exceptions.command("retry")
@click.argument("cause")
@click.option("--note", default="", help="Why; it stays on record.")
@data_option
@json_option
def exceptions_retry(cause: str, note: str, data: DataDirectory, as_json: bool) -> None:
    """Try every dead letter of a cause again: records by the mapping in force, deliveries as they are."""
    require_data(data)
    _report(_walked("retrying", lambda step: _retried(data, step, cause, {}, note)), "tried again and went on", as_json)


@exceptions.command("fix")
@click.argument("cause")
@click.option("--set", "changes", multiple=True, required=True, metavar="COLUMN=VALUE", help="In every record.")
@click.option("--note", default="", help="Why; it stays on record.")
@data_option
@json_option
def exceptions_fix(cause: str, changes: tuple[str, ...], note: str, data: DataDirectory, as_json: bool) -> None:
    """Correct every record of a cause in the same way, and send it on its way.

    \b
      crossdock exceptions fix unknown_code:wms-shipments:lines.quantity.uom:PCE --set UOM=EA
    """
    require_data(data)
    wanted = assignments(changes)
    said = note or ", ".join(f"{name} set to {value!r}" for name, value in wanted.items())
    _report(
        _walked("correcting", lambda step: _retried(data, step, cause, wanted, said)), "corrected and went on", as_json
    )


@exceptions.command("resolve")
@click.argument("cause")
@click.option("--because", required=True, help="Why nothing more is to be done; it stays on record.")
@data_option
@json_option
def exceptions_resolve(cause: str, because: str, data: DataDirectory, as_json: bool) -> None:
    """Settle a cause without a retry: its dead letters are discarded, and stay in the account as that."""
    require_data(data)

    def step(before: Step | None) -> Step:
        name, after = (before.cause, before.after) if before is not None else (cause, 0)
        return commands.exceptions_resolve(data, name, because, after, by=actor(), now_us=_now_us())

    _report(_walked("resolving", step), "resolved", as_json)


def _retried(data: DataDirectory, before: Step | None, cause: str, changes: dict[str, str], note: str) -> Step:
    name, after = (before.cause, before.after) if before is not None else (cause, 0)
    return commands.exceptions_retry(data, name, changes, note, after, by=actor(), now_us=_now_us())


def _walked(word: str, step: Callable[[Step | None], Step]) -> dict[str, Any]:
    """Every page of a cause, with progress on the terminal."""
    from crossdock_controller.cli.screen import side

    done, left = 0, 0
    refused: list[tuple[int, str]] = []
    before: Step | None = None
    with side().status(word, spinner="dots") as status:
        while before is None or before.more:
            before = step(before)
            done, left = done + before.done, left + before.left
            refused += before.refused
            status.update(f"{word}: {words.count(done)} done, {words.count(left)} left")
    return {"cause": before.cause, "done": done, "left": left, "refused": refused[:20]}


def _report(found: dict[str, Any], word: str, as_json: bool) -> None:
    """Exit code 1 when something is left open."""
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen

    if as_json:
        emit(found)
    else:
        screen().print(Text(f"{words.plural(found['done'], 'item')} {word}."))
        if found["left"]:
            screen().print(Text(f"{words.plural(found['left'], 'item')} left as before:", style="yellow"))
            for letter, why in found["refused"][:5]:
                said = why.removeprefix(f"dead letter {letter} ")
                screen().print(Text(f"  dead letter {letter}: {words.shortened(said, REASON_CHARACTERS)}"))
            next_steps([f'crossdock exceptions show "{found["cause"]}"'])
    if found["left"]:
        raise click.exceptions.Exit(PROBLEM)


def _show_list(found: list[Group], now_us: int) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen, style_of, table

    if not found:
        screen().print("[green]No exceptions.[/]")
        return
    grid = table(">items", "~cause", "~where", "owner", "due", "oldest")
    for group in found:
        due = Text(_when(group.due_us, now_us), style="bold red" if group.overdue else "")
        sites = group.sites[0] if len(group.sites) == 1 else words.plural(len(group.sites), "site")
        cause = Text.assemble(
            (group.cause, style_of("dead") if group.severity == "reject" else "bold"), "\n",
            (words.shortened(group.sample, TITLE_CHARACTERS), "dim"),
        )  # fmt: skip
        where = "\n".join([sites, *group.documents[:2]])
        grid.add_row(
            words.count(group.count), cause, where, group.owner or "nobody", due, words.ago(group.oldest_us, now_us)
        )
    screen().print(grid)
    late = sum(group.overdue for group in found)
    if late:
        screen().print(Text(f"{words.plural(late, 'cause')} overdue", style="bold red"))
    next_steps([f'crossdock exceptions show "{found[0].cause}"'])


def _show_one(found: commands.Shown, now_us: int) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen

    group = found.group
    screen().print(Text.assemble((group.cause, "bold"), f" · {words.plural(group.count, 'item')} · {group.severity}"))
    facts = [
        ("owner", (group.owner or "nobody") + (" (assigned)" if group.assigned else "")),
        ("due", _when(group.due_us, now_us)),
        ("since", words.moment(group.oldest_us)),
        ("sites", ", ".join(group.sites)),
        ("about", ", ".join(group.documents)),
    ]
    for name, value in facts:
        if value:
            late = "bold red" if name == "due" and group.overdue else ""
            screen().print(Text.assemble(f"  {name:<9} ", (value, late)), soft_wrap=True)
    for item in found.items:
        what = f"dead letter {item.letter}" if item.letter is not None else f"item {item.id}"
        about = " ".join(w for w in (item.document, item.key, f"→ {item.sink}" if item.sink else "") if w)
        again = f" · died {item.reopened + 1} times" if item.reopened else ""
        line = Text.assemble(
            f"  {what:<16} ", (f"{about} " if about else ""), (words.shortened(item.title, 200), "dim")
        )
        screen().print(line + Text(f" · {item.site} · {words.ago(item.opened_us, now_us)}{again}"), soft_wrap=True)
    if group.count > len(found.items):
        screen().print(Text(f"  and {words.count(group.count - len(found.items))} more", style="dim"))
    for note in found.history:
        said = f"  {words.moment(note.at_us)}  {note.what} by {note.actor}: {note.text}"
        screen().print(Text(said, style="dim"), soft_wrap=True)
    next_steps(found.next)


def _when(due_us: int, now_us: int) -> str:
    """ "in 3 h", "overdue by 2 h 5 min", "-"."""
    if not due_us:
        return "-"
    if due_us >= now_us:
        return words.ahead(due_us, now_us)
    return f"overdue by {words.duration((now_us - due_us) / 1e6)}"


def _due(text: str, now_us: int) -> int:
    """From now on, or a date and time of the operator's own zone."""
    try:
        return now_us + int(words.seconds_of(text) * 1e6)
    except ValueError:
        pass
    try:
        at = dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OSError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time: write 4h, 2d, 2026-12-24 or '2026-12-24 16:00'", param_hint="--due"
        ) from None
    return int(at.timestamp() * 1e6)


def _now_us() -> int:
    return time.time_ns() // 1000
