"""`crossdock codes list|set|ignore|export`: codes without a meaning are a worklist."""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, assignments, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import codes as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.codes import Said, Waiting

REASON_CHARACTERS = 120
_site = click.option("--site", default="", metavar="SITE", help="At this site only, before what holds everywhere.")


@click.group()
def codes() -> None:
    """Codes that no list knows. Say once what one means, and everything that waited for it goes on."""


@codes.command("list")
@data_option
@json_option
def codes_list(data: DataDirectory, as_json: bool) -> None:
    """Codes without a meaning, most waiting records first."""
    require_data(data)
    found = commands.codes_list(data, by=actor(), now_us=_now_us())
    if as_json:
        emit({"codes": found})
        return
    _show_list(found)


@codes.command("set")
@click.argument("name", metavar="LIST")
@click.argument("pairs", metavar="CODE=MEANING...", nargs=-1, required=True)
@_site
@click.option("--note", default="", help="Where you know it from; it stays on record.")
@data_option
@json_option
def codes_set(name: str, pairs: tuple[str, ...], site: str, note: str, data: DataDirectory, as_json: bool) -> None:
    """Fill in what codes of a list mean; what waited for them is mapped again in the background.

    \b
      crossdock codes set units PCE=H87 KRT=CT
      crossdock codes set units ST=H87 --site atl1
    """
    require_data(data)
    answers = [
        commands.codes_set(data, name, value, meaning, site, note=note, by=actor(), now_us=_now_us())
        for value, meaning in assignments(pairs).items()
    ]
    if as_json:
        emit({"answers": answers})
        return
    waiting = sum(answer.letters for answer in answers)
    click.echo(
        f"{words.plural(len(answers), 'meaning')} filled in; {words.plural(waiting, 'dead letter')} mapped again"
    )
    if waiting:
        click.echo("see how it goes: crossdock codes list")
    else:
        click.echo(f"nothing waits for it in list {answers[0].list}: crossdock codes list shows what does")


@codes.command("ignore")
@click.argument("name", metavar="LIST")
@click.argument("value", metavar="CODE")
@_site
@click.option("--note", required=True, help="Why such records may go; it stays on record.")
@data_option
@json_option
def codes_ignore(name: str, value: str, site: str, note: str, data: DataDirectory, as_json: bool) -> None:
    """Give up records with this code, those that wait and those to come. They count as discarded in the account."""
    require_data(data)
    answer = commands.codes_ignore(data, name, value, site, note=note, by=actor(), now_us=_now_us())
    if as_json:
        emit({"answers": [answer]})
        return
    click.echo(f"{value} of {name} is ignored; {words.plural(answer.letters, 'dead letter')} will be discarded")


@codes.command("export")
@click.argument("name", metavar="[LIST]", required=False, default="")
@data_option
@json_option
def codes_export(name: str, data: DataDirectory, as_json: bool) -> None:
    """What people filled in, as rows for the lists of the configuration, where it is reviewed."""
    require_data(data)
    found = commands.codes_export(data, name, by=actor(), now_us=_now_us())
    if as_json:
        emit({"said": found})
        return
    click.echo(as_rows(found), nl=False)


def as_rows(found: list[Said]) -> str:
    """CSV rows of each list, under a heading; what holds at one site only says so, as a list has no sites."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    lists: dict[str, list[Said]] = defaultdict(list)
    for said in found:
        if said.state == "given":
            lists[said.list].append(said)
    for name, entries in lists.items():
        out.write(f"# for lists/{name.partition('/')[0]}.csv\n")
        for said in entries:
            if said.site:
                out.write(f"# at {said.site} only: ")
            writer.writerow([said.value, said.meaning])
    return out.getvalue()


def _show_list(found: list[Waiting]) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, table

    if not found:
        screen().print("[green]No code waits for a meaning.[/]")
        return
    now_us = _now_us()
    grid = table("list", "code", "source", ">records", "since", "~sample", "said")
    for waiting in found:
        grid.add_row(
            waiting.list or "(in the mapping)", waiting.value, f"{waiting.source}\n{waiting.site}",
            str(waiting.records), words.ago(waiting.since_us, now_us),
            words.shortened(waiting.sample, REASON_CHARACTERS), waiting.said,
        )  # fmt: skip
    screen().print(grid)
    first = next((w for w in found if w.list and not w.said), None)
    if first is not None:
        next_steps([f"crossdock codes set {first.list} {first.value}=MEANING", f"crossdock dead show {first.letter}"])


def _now_us() -> int:
    return time.time_ns() // 1000
