"""`crossdock dead list|show|retry|discard`: what went wrong, in full, and the ways out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, assignments, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import dead as commands
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.store.dead_letters import DeadLetter

SAMPLE_CHARACTERS = 600
REASON_CHARACTERS = 160
ROWS_SHOWN = 5
ELEMENTS_SHOWN = 20
_IN_LIST = re.compile(r"\.\d+\.")


@click.group()
def dead() -> None:
    """Records and deliveries set aside with their reason. Nothing leaves here by itself."""


@dead.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.option("--source", metavar="NAME", help="Of one source only.")
@click.option("--limit", type=click.IntRange(min=1), default=commands.PAGE, show_default=True, help="At most so many.")
@data_option
@json_option
def dead_list(everything: bool, source: str | None, limit: int, data: DataDirectory, as_json: bool) -> None:
    """Open dead letters, newest first."""
    require_data(data)
    found = commands.dead_list(
        data, state=None if everything else "open", source=source, limit=limit, by=actor(), now_us=_now_us()
    )
    if as_json:
        emit({"dead_letters": [_plain(letter) for letter in found]})
        return
    _show_list(found)


@dead.command("show")
@click.argument("letter", type=int, metavar="ID")
@data_option
@json_option
def dead_show(letter: int, data: DataDirectory, as_json: bool) -> None:
    """One dead letter in full: where it came from, what was in it, why, and what can be done."""
    require_data(data)
    found = commands.dead_show(data, letter, by=actor(), now_us=_now_us())
    if as_json:
        emit(_plain(found))
        return
    show_one(found)


@dead.command("retry")
@click.argument("letter", type=int, metavar="ID")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Correct a field first; 2.QTY is row 2's.")
@click.option("--note", default="", help="Why; it stays on record.")
@click.option("--force", is_flag=True, help="Even after a later version of the same document.")
@data_option
@json_option
def dead_retry(
    letter: int, changes: tuple[str, ...], note: str, force: bool, data: DataDirectory, as_json: bool
) -> None:
    """Try a dead letter again, corrected or as it is, by the mapping in force.

    \b
      crossdock dead retry 7 --set QTY=12
      crossdock dead retry 7 --set 2.QTY=12     (row 2 of several)
    """
    require_data(data)
    wanted = assignments(changes)
    from crossdock_controller.cli.screen import next_steps, screen, working

    with working("retrying"):
        found = commands.dead_retry(data, letter, wanted, actor(), note or _said(wanted), force)
    if as_json:
        emit(_plain(found))
        return
    screen().print(f"[green]Dead letter {letter} is retried.[/]" + (f" [dim]{_said(wanted)}[/]" if wanted else ""))
    next_steps([f"crossdock trace {found.key}" if found.key else "crossdock account"])


@dead.command("discard")
@click.argument("letter", type=int, metavar="ID")
@click.option("--note", required=True, help="Why it may go; it stays on record.")
@data_option
@json_option
def dead_discard(letter: int, note: str, data: DataDirectory, as_json: bool) -> None:
    """Give a dead letter up. It stays in the account as discarded, with your name and the note."""
    require_data(data)
    found = commands.dead_discard(data, letter, actor(), note)
    if as_json:
        emit(_plain(found))
        return
    click.echo(f"dead letter {letter} is discarded; it counts as such in 'crossdock account'")


def _now_us() -> int:
    return time.time_ns() // 1000


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """For programs: the sample as text beside its bytes, the place in words."""
    from crossdock_controller.cli.output import as_json

    found: dict[str, Any] = as_json(letter)
    found["place"] = letter.locator.text()
    found["sample_text"] = letter.sample.decode("utf-8", "replace")
    return found


def _said(changes: dict[str, str]) -> str:
    return ", ".join(f"{name} set to {value!r}" for name, value in changes.items())


def _show_list(found: list[DeadLetter]) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("[green]No dead letters.[/]")
        return
    now_us = time.time_ns() // 1000
    mixed = any(letter.state != "open" for letter in found)
    grid = table(">id", *(("state",) if mixed else ()), "source", "where", "~why", "since")
    for letter in found:
        where = (
            f"{letter.document} {letter.key} → {letter.sink}" if letter.kind == "delivery" else letter.locator.text()
        )
        several = f" ({words.plural(letter.records, 'record')})" if letter.records > 1 else ""
        why = words.shortened(letter.reason, REASON_CHARACTERS) + several
        grid.add_row(
            str(letter.id), *((state(letter.state),) if mixed else ()), f"{letter.source}\n{letter.site}", where, why,
            words.ago(letter.created_us, now_us),
        )  # fmt: skip
    screen().print(grid)
    opened = [letter for letter in found if letter.state == "open"]
    if opened:
        next_steps([f"crossdock dead show {opened[0].id}"])


def show_one(found: DeadLetter) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen, state

    what = words.plural(found.records, "record") if found.kind == "record" else f"delivery to {found.sink}"
    screen().print(Text.assemble((f"dead letter {found.id}", "bold"), " · ", state(found.state), f" · {what}"))
    facts = [
        ("why", f"{found.code}: {found.reason}"),
        ("field", found.field),
        ("where", found.locator.text()),
        ("source", f"{found.source} · agent {found.agent} · site {found.site}"),
        ("document", f"{found.document} {found.key}".strip()),
        ("since", words.moment(found.created_us)),
    ]
    if found.state != "open":
        facts.append((found.state, f"{words.moment(found.resolved_us)} by {found.resolved_by} · {found.note}"))
    for name, value in facts:
        if value:
            screen().print(Text.assemble(f"  {name:<9} ", value), soft_wrap=True)
    _show_content(found)
    if found.state == "open":
        next_steps(steps(found))


def _show_content(found: DeadLetter) -> None:
    """Its records by field, the field at fault marked; the raw bytes when they could not be decoded."""
    from rich.text import Text

    from crossdock_controller.cli.screen import screen

    for i, row in enumerate(found.rows[:ROWS_SHOWN], 1):
        if len(found.rows) > 1:
            screen().print(Text(f"  row {i}", style="dim"))
        cells = list(cells_of(row, found.reason))
        width = max((len(name) for name, _ in cells), default=0)
        for name, value in cells:
            text = "(nothing)" if value is None else str(value)
            guilty = is_guilty(name, value, found.reason)
            screen().print(Text.assemble("    ", (f"{name:<{width}}  ", "dim"), (text, "bold red" if guilty else "")))
    if len(found.rows) > ROWS_SHOWN:
        screen().print(Text(f"  and {len(found.rows) - ROWS_SHOWN} more rows: --json shows all", style="dim"))
    if not found.rows and found.sample:
        screen().print(Text("  its first bytes:", style="dim"))
        screen().print(Text("    " + found.sample.decode("utf-8", "backslashreplace")[:SAMPLE_CHARACTERS]))


def cells_of(row: dict[str, Any], reason: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of *row* under the name by which it is corrected: `lines.2.QTY` inside a list of records. Of a long
    list the first elements, and those that *reason* names."""
    for name, value in row.items():
        if not (isinstance(value, list) and value and all(isinstance(element, dict) for element in value)):
            yield str(name), value
            continue
        for i, element in enumerate(value, 1):
            if i > ELEMENTS_SHOWN and f"{name}.{i}." not in reason:
                continue
            yield from ((f"{name}.{i}.{inner}", held) for inner, held in element.items())
        if len(value) > ELEMENTS_SHOWN:
            yield str(name), f"{len(value)} in all: --json shows every one"


def is_guilty(name: str, value: Any, reason: str) -> bool:
    """Whether *reason* speaks of this value: of one in a list by its name, of others by what they are."""
    if _IN_LIST.search(name):
        return f"{name}:" in reason
    return bool(value) and repr(value) in reason


def steps(found: DeadLetter) -> list[str]:
    """The ways out of an open letter."""
    discard = f'crossdock dead discard {found.id} --note "why it may go"'
    if found.kind == "delivery":
        return [f"when {found.sink} would take it now: crossdock dead retry {found.id}", discard]
    if found.list:
        return [
            f"say what the code means, for all that wait: crossdock codes set {found.list} {found.value}=MEANING",
            discard,
        ]
    if found.rows:
        cells = (cell for row in found.rows for cell in cells_of(row, found.reason))
        field = next((name for name, value in cells if is_guilty(name, value, found.reason)), "FIELD")
        return [
            f"correct it by hand: crossdock dead retry {found.id} --set {field}=VALUE",
            f"or correct the mapping, apply it, then: crossdock dead retry {found.id}",
            discard,
        ]
    return ["have the source send it again, whole", discard]
