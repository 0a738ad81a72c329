"""`crossdock top`: what flows, what waits and for how long, refreshed in place."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.fleet import forecast_of, share_of
from crossdock_controller.cli.options import Period, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import top as commands
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS = " ▁▂▃▄▅▆▇█"
HISTORY = 40


@click.command()
@click.option("--interval", type=Period(), default="1s", show_default=True, help="Time between two looks.")
@click.option("--once", is_flag=True, help="One interval, then end.")
@data_option
@json_option
def top(interval: float, once: bool, data: DataDirectory, as_json: bool) -> None:
    """Live throughput, lag and backlog of every source and sink. Ctrl-C ends it.

    With --json, or without a terminal, one interval is measured and printed.
    """
    require_data(data)
    from crossdock_controller.cli.screen import screen

    if as_json or once or not screen().is_terminal:
        found = commands.measure(data, interval)
        if as_json:
            emit(found)
        else:
            screen().print(picture(found, [found.received_per_second]))
        return
    try:
        _live(data, interval)
    except KeyboardInterrupt:
        return


def _live(data: DataDirectory, interval: float) -> None:
    from rich.live import Live

    from crossdock_controller.cli.screen import screen

    history: deque[float] = deque(maxlen=HISTORY)
    with Live(console=screen(), auto_refresh=False) as live:
        while True:
            found = commands.measure(data, interval)
            history.append(found.received_per_second)
            live.update(picture(found, list(history)), refresh=True)


def picture(found: commands.Top, history: list[float]) -> RenderableType:
    """The whole view as one renderable."""
    from rich.console import Group
    from rich.text import Text

    from crossdock_controller.cli.screen import number, state, table

    head = Text.assemble(
        ("controller ", "bold"), state(found.controller), f"   in {words.rate(found.received_per_second)}",
        f" · normalized {words.rate(found.normalized_per_second)} · delivered {words.rate(found.delivered_per_second)}",
        ("   " + sparkline(history), "cyan"),
    )  # fmt: skip
    sources = table("source", "site", ">in", ">normalized", ">outbox", ">queued", ">lag")
    for s in found.sources:
        sources.add_row(
            s.source, s.site, words.rate(s.received_per_second), words.rate(s.normalized_per_second),
            number(s.outbox_records, "yellow"), number(s.waiting_records, "yellow"), _lag(s.lag_seconds),
        )  # fmt: skip
    sinks = table("sink", ">delivered", ">pending", ">retrying", ">held", ">dead", ">lag")
    for k in found.sinks:
        sinks.add_row(
            k.sink, words.rate(k.delivered_per_second), number(k.pending, "yellow"), number(k.retrying, "yellow"),
            number(k.held, "yellow"), number(k.dead, "bold red"), _lag(k.lag_seconds),
        )  # fmt: skip
    parts: list[RenderableType] = [head, sources, sinks]
    parts += [Text.assemble(("! ", "yellow"), f"{k.sink}: {k.problem}") for k in found.sinks if k.problem]
    for agent in found.agents:
        ahead = f"outbox {share_of(agent.outbox)}, {forecast_of(agent, found.at_us)}"
        parts += [Text.assemble(("! ", "yellow"), f"{agent.agent}: {said}") for said in (ahead, *agent.own_problems)]
    if found.dead:
        letters = words.plural(found.dead, "dead letter")
        parts.append(Text.assemble(("  next: ", "yellow"), f"crossdock dead list ({letters})"))
    return Group(*parts)


def sparkline(values: list[float]) -> str:
    """One bar a value, scaled to the largest of them; blank for zero."""
    most = max(values, default=0.0)
    return "".join(BARS[math.ceil(v / most * 8)] if most else BARS[0] for v in values)


def _lag(seconds: float) -> str:
    return words.duration(seconds) if seconds else "-"
