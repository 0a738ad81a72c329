"""`crossdock get order 4711` and `crossdock find`: what documents are now, and what each system has of them."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import state as commands
from crossdock_controller.paths import DataDirectory

CHANGES_SHOWN = 12
VALUE_CHARACTERS = 60
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="[KIND] NUMBER")
@data_option
@json_option
def get(what: tuple[str, ...], data: DataDirectory, as_json: bool) -> None:
    """A document as it is now: its versions and what changed, where each came from, and what each system has of it.

    \b
      crossdock get order 4711
      crossdock get stock DC1:A-100

    Exit code 1 when nothing is known of it.
    """
    if len(what) > 2:
        raise click.UsageError("give a number, or a kind of document and a number: crossdock get order 4711")
    require_data(data)
    kind = what[0] if len(what) == 2 else ""
    found = commands.get(data, what[-1], kind, by=actor(), now_us=time.time_ns() // 1000)
    if as_json:
        emit({"documents": found})
    else:
        _show(found, " ".join(what))
    if not found:
        raise click.exceptions.Exit(PROBLEM)


@click.command()
@click.option("--document", default="", metavar="KIND", help="Of one kind: order, invoice, SalesOrder ...")
@click.option("--customer", metavar="ID", help="Of this customer.")
@click.option("--supplier", metavar="ID", help="Of this supplier.")
@click.option("--sku", metavar="SKU", help="With this item.")
@click.option("--order", metavar="NUMBER", help="Of this order, and the order itself.")
@click.option("--shipment", metavar="NUMBER", help="Of this shipment, and the shipment itself.")
@click.option("--reference", metavar="TEXT", help="With this number of the other side.")
@click.option("--since", metavar="TIME", help="24h, 7d, monday, 2026-12-24 or '2026-12-24 16:00'.")
@click.option("--site", default="", metavar="NAME", help="From one site.")
@click.option("--state", default="", metavar="STATE", help="With a delivery that is dead, held, retrying, pending ...")
@click.option("--limit", type=click.IntRange(1, commands.MOST), default=100, show_default=True, help="At most so many.")
@data_option
@json_option
def find(
    document: str, since: str | None, site: str, state: str, limit: int, data: DataDirectory, as_json: bool,
    **refs: str | None,
) -> None:  # fmt: skip
    """Documents by what they refer to, newest first.

    \b
      crossdock find --customer C1 --since monday
      crossdock find --document invoice --state dead
    """
    require_data(data)
    now_us = time.time_ns() // 1000
    asked = {name: value for name, value in refs.items() if value}
    found = commands.find(
        data, asked, document, _since(since, now_us) if since else 0, site, state, limit, by=actor(), now_us=now_us
    )
    if as_json:
        emit({"documents": found})
        return
    _show_found(found, limit, now_us)


def _since(text: str, now_us: int) -> int:
    """Microseconds; a weekday is the last one, from midnight of the operator's own zone."""
    now = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC).astimezone()
    word = text.strip().lower()
    if word in {"today", "yesterday", *_DAYS}:
        back = {"today": 0, "yesterday": 1}.get(word)
        days = back if back is not None else (now.weekday() - _DAYS.index(word)) % 7
        midnight = dt.datetime.combine(now.date() - dt.timedelta(days=days), dt.time())
        return int(midnight.astimezone().timestamp() * 1e6)
    try:
        return max(0, now_us - int(words.seconds_of(text) * 1e6))
    except ValueError:
        pass
    try:
        return max(0, int(dt.datetime.fromisoformat(text).astimezone().timestamp() * 1e6))
    except (ValueError, OSError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time: write 24h, 7d, monday, 2026-12-24 or '2026-12-24 16:00'", param_hint="--since"
        ) from None


def _show(found: list[commands.Known], asked: str) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen

    if not found:
        screen().print(Text(f"nothing is known of {asked}"))
        next_steps([f"crossdock trace {asked}", "crossdock find --since 24h"])
        return
    for known in found:
        last = known.versions[-1]
        head = f"  {words.plural(len(known.versions), 'version')}, the last {words.moment(last.at_us)}"
        screen().print(Text.assemble((f"{known.document} {known.key}", "bold"), (head, "dim")))
        for name, value in known.body.items():
            _show_value(str(name), value)
        for version in known.versions:
            _show_version(version)
        _show_beliefs(known)


def _show_value(name: str, value: Any) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import screen

    if isinstance(value, list):
        screen().print(Text(f"  {name:<16} {words.plural(len(value), 'element')}", style="dim"))
        for element in value[:20]:
            screen().print(Text(f"    {_flat(element)}"), soft_wrap=True)
        if len(value) > 20:
            screen().print(Text(f"    and {len(value) - 20} more: --json shows all", style="dim"))
        return
    screen().print(Text.assemble(f"  {name:<16} ", _flat(value)), soft_wrap=True)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items())
    return str(value)


def _show_version(version: commands.Version) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import screen

    where = f"{version.place} · source {version.source} · site {version.site} · revision {version.revision}"
    screen().print(
        Text.assemble((f"  version {version.number}  ", "bold"), f"{words.moment(version.at_us)} · {where}"),
        soft_wrap=True,
    )
    for change in version.changes[:CHANGES_SHOWN]:
        was, now = (
            "(nothing)" if text is None else words.shortened(text, VALUE_CHARACTERS)
            for text in (change.before, change.after)
        )
        screen().print(Text(f"    {change.path}: {was} → {now}"), soft_wrap=True)
    if len(version.changes) > CHANGES_SHOWN:
        screen().print(Text(f"    and {len(version.changes) - CHANGES_SHOWN} more: --json shows them", style="dim"))


def _show_beliefs(known: commands.Known) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import screen, state, table

    if not known.sinks:
        screen().print(Text("  no system was to get it: no route wants it", style="yellow"))
        return
    newest = known.versions[-1].number
    grid = table("sink", "has", "state", "~does not have")
    for belief in known.sinks:
        latest = " (the latest)" if belief.has == newest else ""
        has = f"version {belief.has}{latest}" if belief.has else "nothing"
        waiting = ", ".join(f"version {n} ({word})" for n, word in belief.waiting[-5:])
        word = "delivered" if belief.state == "done" else belief.state
        grid.add_row(belief.sink, has, state(word), waiting or "-")
    screen().print(grid)


def _show_found(found: list[commands.Found], limit: int, now_us: int) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, table

    if not found:
        screen().print("No documents.")
        return
    grid = table("document", "~key", "site", "~source", "~sinks", "since")
    for row in found:
        states = ", ".join(f"{sink} {'delivered' if s == 'done' else s}" for sink, s in sorted(row.states.items()))
        grid.add_row(row.document, row.key, row.site, row.source, states or "-", words.ago(row.at_us, now_us))
    screen().print(grid)
    if len(found) >= limit:
        screen().print(f"[dim]the newest {limit}; --limit shows more[/]")
    next_steps([f"crossdock get {found[0].document} {found[0].key}"])
