"""`crossdock sinks list|show|pause|resume|drain|check`: how each destination is doing, and steering it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.cli.status import state_of
from crossdock_controller.commands import sinks as commands
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.sinks import SinkDetails
    from crossdock_controller.store.views import SinkView

POLL_SECONDS = 0.5
_BECAUSE = click.option("--because", metavar="TEXT", default="", help="Why; it stays on record and on view.")


@click.group()
def sinks() -> None:
    """Destinations: how far each is, and pausing, draining or trying one."""


@sinks.command("list")
@data_option
@json_option
def sinks_list(data: DataDirectory, as_json: bool) -> None:
    """Every sink with what waits for it."""
    require_data(data)
    found = commands.sinks_list(data)
    if as_json:
        emit({"sinks": found})
        return
    from crossdock_controller.cli.screen import number, screen, state, table

    grid = table("sink", "state", ">pending", ">retrying", ">held", ">dead", "~said")
    for sink in found:
        grid.add_row(
            sink.sink, state(state_of(sink)), number(sink.pending, "yellow"), number(sink.retrying, "yellow"),
            number(sink.held, "yellow"), number(sink.dead, "bold red"), _said(sink),
        )  # fmt: skip
    screen().print(grid if found else "Nothing was ever due at any sink.")


@sinks.command("show")
@click.argument("sink", metavar="NAME")
@data_option
@json_option
def sinks_show(sink: str, data: DataDirectory, as_json: bool) -> None:
    """One sink in full: its circuit, its policy, what waits, and what people said of it."""
    require_data(data)
    _tell(commands.sinks_show(data, sink, now_us=_now_us()), as_json)


@sinks.command("pause")
@click.argument("sink", metavar="NAME")
@_BECAUSE
@data_option
@json_option
def sinks_pause(sink: str, because: str, data: DataDirectory, as_json: bool) -> None:
    """Send nothing more; what is due waits, in order, until 'crossdock sinks resume'."""
    require_data(data)
    _tell(commands.pause(data, sink, because, by=actor(), now_us=_now_us()), as_json)


@sinks.command("resume")
@click.argument("sink", metavar="NAME")
@_BECAUSE
@data_option
@json_option
def sinks_resume(sink: str, because: str, data: DataDirectory, as_json: bool) -> None:
    """Send again."""
    require_data(data)
    _tell(commands.resume(data, sink, because, by=actor(), now_us=_now_us()), as_json)


@sinks.command("drain")
@click.argument("sink", metavar="NAME")
@_BECAUSE
@click.option("--no-wait", is_flag=True, help="Do not wait for the end; 'crossdock sinks show' tells how far it is.")
@data_option
@json_option
def sinks_drain(sink: str, because: str, no_wait: bool, data: DataDirectory, as_json: bool) -> None:
    """Send what is due up to now, then pause. What the sink puts off to later, and what comes later, waits."""
    require_data(data)
    found = commands.drain(data, sink, because, by=actor(), now_us=_now_us())
    while not no_wait and found.view.draining:
        if not as_json:
            click.echo(f"{sink}: {words.count(found.drain_left)} of {words.count(found.drain_total)} left", err=True)
        time.sleep(POLL_SECONDS)
        found = commands.sinks_show(data, sink, now_us=_now_us())
    _tell(found, as_json)


@sinks.command("check")
@click.argument("sink", metavar="NAME")
@data_option
@json_option
def sinks_check(sink: str, data: DataDirectory, as_json: bool) -> None:
    """Reach a sink as the controller would, and say what is there; nothing is sent."""
    require_data(data)
    from crossdock_controller.cli.screen import screen, state, working

    with working(f"reaching {sink}"):
        found = commands.check(data, sink)
    if as_json:
        emit(found)
    else:
        screen().print(state("ok" if found.ok else "failing"), found.text, markup=False)
    if not found.ok:
        raise click.exceptions.Exit(PROBLEM)


def _tell(found: SinkDetails, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    from crossdock_controller.cli.screen import next_steps, number, screen, state, table

    view, now_us = found.view, _now_us()
    screen().print(f"[bold]sink[/] {view.sink} · {found.kind or 'not in the revision in force'} · ", end="")
    screen().print(state(state_of(view)))
    if said := _said(view):
        screen().print(f"{said}, {words.ago(view.said_us, now_us)}", markup=False)
    if view.draining:
        screen().print(f"draining: {words.count(found.drain_left)} of {words.count(found.drain_total)} left")
    grid = table(">pending", ">retrying", ">held", ">dead", ">a second", "last done")
    grid.add_row(
        number(view.pending, "yellow"), number(view.retrying, "yellow"), number(view.held, "yellow"),
        number(view.dead, "bold red"), words.rate(found.per_second), words.ago(view.last_done_us, now_us),
    )  # fmt: skip
    screen().print(grid)
    if found.circuit == "open":
        tried = words.plural(view.failures, "call")
        screen().print(
            f"circuit open after {tried} without a verdict, tried {words.ahead(view.next_try_us, now_us)}: "
            f"{view.problem}", markup=False,
        )  # fmt: skip
    for name, value in found.policy.items():
        screen().print(f"  {name}: {value}", markup=False)
    if found.replay:
        next_steps([f"replay {found.replay} runs: crossdock replay show {found.replay}"])
    if view.paused:
        next_steps([f"crossdock sinks resume {view.sink}"])


def _said(view: SinkView) -> str:
    """ "paused by local:anna: the ERP is being moved"; nothing when it goes on as nobody said otherwise."""
    if not (view.paused or view.draining):
        return ""
    word = "paused" if view.paused else "draining"
    by = f" by {view.said_by}" if view.said_by else ""
    return f"{word}{by}" + (f": {view.said_because}" if view.said_because else "")


def _now_us() -> int:
    return time.time_ns() // 1000
