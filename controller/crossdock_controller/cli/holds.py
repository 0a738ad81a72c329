"""`crossdock holds list|show|release|discard`: documents that a rule holds for a person."""

from __future__ import annotations

import time
from typing import Any

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import holds as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.holds import Held

REASON_CHARACTERS = 160


@click.group()
def holds() -> None:
    """Documents that a rule holds. In the log, and sent nowhere before a person, or the missing master, comes."""


@holds.command("list")
@click.option("--all", "everything", is_flag=True, help="Settled ones too.")
@click.option("--document", metavar="KIND", help="Of one kind only, such as Invoice.")
@click.option("--limit", type=click.IntRange(min=1), default=commands.PAGE, show_default=True, help="At most so many.")
@data_option
@json_option
def holds_list(everything: bool, document: str | None, limit: int, data: DataDirectory, as_json: bool) -> None:
    """Held documents, oldest first."""
    require_data(data)
    found = commands.holds_list(
        data, state=None if everything else "open", document=document, limit=limit, by=actor(), now_us=_now_us()
    )
    if as_json:
        emit({"holds": [_plain(held) for held in found]})
        return
    _show_list(found)


@holds.command("show")
@click.argument("event", type=int, metavar="EVENT")
@data_option
@json_option
def holds_show(event: int, data: DataDirectory, as_json: bool) -> None:
    """One held document: why, what it waits for, and what waits behind it."""
    require_data(data)
    found = commands.holds_show(data, event, by=actor(), now_us=_now_us())
    if as_json:
        emit(_plain(found))
        return
    _show_one(found)


@holds.command("release")
@click.argument("event", type=int, metavar="EVENT")
@click.option("--note", required=True, help="Why it may go as it is; it stays on record.")
@data_option
@json_option
def holds_release(event: int, note: str, data: DataDirectory, as_json: bool) -> None:
    """Send a held document as it is, and then what waited behind it."""
    require_data(data)
    found = commands.holds_release(data, event, by=actor(), note=note, now_us=_now_us())
    _done(found, as_json, f"{found.document} {found.key} goes on, and what waited behind it after it")


@holds.command("discard")
@click.argument("event", type=int, metavar="EVENT")
@click.option("--note", required=True, help="Why it is not to be sent; it stays on record.")
@data_option
@json_option
def holds_discard(event: int, note: str, data: DataDirectory, as_json: bool) -> None:
    """Never send a held document; what waited behind it goes on. It counts as discarded in the account."""
    require_data(data)
    found = commands.holds_discard(data, event, by=actor(), note=note, now_us=_now_us())
    _done(found, as_json, f"{found.document} {found.key} is discarded; what waited behind it goes on")


def _done(found: Held, as_json: bool, said: str) -> None:
    if as_json:
        emit(_plain(found))
    else:
        click.echo(said)


def _now_us() -> int:
    return time.time_ns() // 1000


def _plain(held: Held) -> dict[str, Any]:
    from crossdock_controller.cli.output import as_json

    found: dict[str, Any] = as_json(held)
    found["place"] = held.locator.text()
    return found


def _show_list(found: list[Held]) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("[green]No rule holds a document.[/]")
        return
    now_us = _now_us()
    mixed = any(held.state != "open" for held in found)
    grid = table(">event", *(("state",) if mixed else ()), "document", "source", "~why", ">behind it", "since")
    for held in found:
        why = words.shortened("; ".join(reason.reason for reason in held.reasons), REASON_CHARACTERS)
        grid.add_row(
            str(held.seq), *((state(held.state),) if mixed else ()), f"{held.document}\n{held.key}",
            f"{held.source}\n{held.site}", why, str(held.later), words.ago(held.opened_us, now_us),
        )  # fmt: skip
    screen().print(grid)
    opened = [held for held in found if held.state == "open"]
    if opened:
        next_steps([f"crossdock holds show {opened[0].seq}"])


def _show_one(found: Held) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen, state

    screen().print(Text.assemble((f"{found.document} {found.key}", "bold"), " · ", state(found.state)))
    facts = [(reason.code, reason.reason) for reason in found.reasons]
    facts += [("waits for", f"{document} {key}") for document, key in found.waits]
    facts += [
        ("where", found.locator.text()),
        ("source", f"{found.source} · site {found.site}"),
        ("since", words.moment(found.opened_us)),
    ]
    if found.later:
        facts.append(("behind it", f"{words.plural(found.later, 'later version')} of it"))
    if found.state != "open":
        note = f" · {found.note}" if found.note else ""
        facts.append((found.state, f"{words.moment(found.resolved_us)} by {found.resolved_by}{note}"))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        screen().print(Text.assemble(f"  {name:<{width}} ", value), soft_wrap=True)
    if found.state == "open":
        next_steps(steps(found))


def steps(found: Held) -> list[str]:
    """The ways out of a hold."""
    ways = [
        f'send it as it is: crossdock holds release {found.seq} --note "why it may go"',
        f'never send it: crossdock holds discard {found.seq} --note "why not"',
        "corrected at its source, it comes as a later version and waits behind this one: then discard this one",
    ]
    if found.waits and not found.by_hand:
        ways.insert(0, "it goes on by itself when what it waits for has come")
    return ways
