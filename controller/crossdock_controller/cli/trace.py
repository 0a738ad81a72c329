"""`crossdock trace order 4711`: one timeline, from file and line to every sink."""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import trace as commands
from crossdock_controller.paths import DataDirectory

_DAY_US = 86_400_000_000


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="[KIND] NUMBER")
@data_option
@json_option
def trace(what: tuple[str, ...], data: DataDirectory, as_json: bool) -> None:
    """One document's way: where it was read, when it arrived, which mapping made it, what each sink said.

    \b
      crossdock trace order 4711
      crossdock trace shipment S-1001     (also by its whole key, rtm1:S-1001)
      crossdock trace 4711                (whatever kind it is)

    Exit code 1 when nothing is known of it.
    """
    if len(what) > 2:
        raise click.UsageError("give a number, or a kind of document and a number: crossdock trace order 4711")
    require_data(data)
    found = commands.trace(data, what[-1], what[0] if len(what) == 2 else "", by=actor(), now_us=time.time_ns() // 1000)
    if as_json:
        emit(found)
    else:
        show(found)
    if not found.entries:
        raise click.exceptions.Exit(PROBLEM)


def show(found: commands.Trace) -> None:
    """The timeline on the screen."""
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen, style_of

    if not found.entries:
        screen().print(Text(found.verdict))
        next_steps(found.next)
        return
    names = ", ".join(f"{kind} {key}" for kind, key in found.documents) or f"{found.document} {found.number}".strip()
    first_us = found.entries[0].at_us
    day, zone = words.moment(first_us).split(" ")[0], words.moment(first_us).split(" ")[-1]
    screen().print(Text.assemble((names, "bold"), (f"  {day}, times in {zone}", "dim")))
    before_us = first_us
    for entry in found.entries:
        word, lines = _told(entry, several=len(found.documents) > 1 or _versions(found) > 1)
        gap_us = entry.at_us - before_us
        before_us = entry.at_us
        waited = f"+{words.duration(gap_us / 1e6)}" if gap_us >= 1000 else ""
        if gap_us >= _DAY_US:
            screen().print(Text(f"  {words.moment(entry.at_us)}", style="dim"))
        head = Text.assemble(
            f"  {words.clock(entry.at_us)}  ",
            (f"{word:<12}", style_of(word) or "bold"),
            lines[0],
            (f"  {waited}" if waited else "", "dim"),
        )
        screen().print(head, soft_wrap=True)
        for line in lines[1:]:
            screen().print(Text(" " * 28 + line, style="dim"), soft_wrap=True)
    screen().print(Text.assemble(("→ ", "bold"), found.verdict))
    next_steps(found.next)


def _versions(found: commands.Trace) -> int:
    return sum(1 for e in found.entries if e.what == "normalized")


def _told(entry: commands.Entry, *, several: bool) -> tuple[str, list[str]]:
    """(the word in the second column, the lines beside it)."""
    facts = entry.facts
    version = f" · version {facts['seq']}" if several and "seq" in facts else ""
    if entry.what == "read":
        return "read", [f"{facts['origin']} · {words.plural(facts['records'], 'record')} in its batch"]
    if entry.what == "received":
        where = f"source {facts['source']} · agent {facts['agent']} · site {facts['site']} · batch {facts['sequence']}"
        return "received", [facts["place"], where]
    if entry.what == "normalized":
        letter = f" · from dead letter {facts['letter']}, corrected" if "letter" in facts else ""
        said = [f"{facts['document']} {facts['key']} · by revision {facts['revision']}{version}{letter}"]
        return "normalized", said + [f"warning: {w}" for w in facts["warnings"]]
    if entry.what == "attempt":
        code = f" {facts['code']}" if facts["code"] else ""
        return "attempt", [f"{facts['sink']} · attempt {facts['attempt']} · {facts['outcome']}{code}{version}"] + (
            [facts["reason"]] if facts["reason"] else []
        )
    if entry.what == "delivery":
        word = "delivered" if facts["state"] == "done" else facts["state"]
        tries = words.plural(facts["attempts"], "attempt") if facts["attempts"] else "not tried yet"
        return word, [f"{facts['sink']} · {tries}{version}"]
    if entry.what == "hold":
        whose = f"{facts['state']} by {facts['by']}" if facts["by"] else "by a rule"
        return "hold" if facts["by"] else "held", [f"{whose} · event {facts['seq']}", *facts["reasons"]]
    return "dead", [f"letter {facts['id']} ({facts['state']}) · {facts['code']}", facts["reason"]]
