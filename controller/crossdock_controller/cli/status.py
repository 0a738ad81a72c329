"""`crossdock status`: one page, worst news last, where the eye rests, with what to do about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import status as commands
from crossdock_controller.commands.storage import StorageView, storage
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.store.views import SinkView


@click.command()
@data_option
@json_option
def status(data: DataDirectory, as_json: bool) -> None:
    """The whole picture on one page: controller, sources, sinks, dead letters, and what to do next."""
    require_data(data)
    now_us = time.time_ns() // 1000
    if not as_json:
        _show_store(storage(data, now_us))  # before anything is read from it, which may fail
    found = commands.status(data, now_us)
    if as_json:
        emit(found)
        return
    _show(found)


def _show_store(store: StorageView) -> None:
    """A line when all is well; what is wrong, and the next step, when not."""
    from crossdock_controller.cli.screen import screen, state

    if store.state == "ok":
        return
    screen().print("[bold]store[/]     ", state(store.state, store.state), end="  ")
    screen().print(store.problem, markup=False, soft_wrap=True)
    if store.floor_bytes:
        free, floor = words.size(store.free_bytes), words.size(store.floor_bytes)
        sizes = f"state.db {words.size(store.state_bytes)}, intake.db {words.size(store.intake_bytes)}"
        screen().print(f"           {free} free, {floor} kept free; {sizes}", markup=False, soft_wrap=True)
    screen().print(f"           next: {store.hint}", markup=False, soft_wrap=True)


def _show(found: commands.Status) -> None:
    from crossdock_controller.cli.fleet import show_throttled
    from crossdock_controller.cli.screen import next_steps, screen, state

    controller, revision = found.controller, found.revision
    at = f" at {controller.link}" if controller.link else ""
    screen().print("[bold]controller[/]", state(controller.state, controller.state + at))
    if found.api:
        screen().print(f"[bold]api[/]        {found.api}", soft_wrap=True)
    screen().print(f"[bold]data[/]       {controller.data}", soft_wrap=True)
    if found.store.held_by:
        screen().print(f"[bold]held by[/]    {found.store.held_by}", soft_wrap=True)
    if revision.revision:
        by = f" by {revision.author}" if revision.author else ""
        screen().print(
            f"[bold]revision[/]   {revision.revision}, {words.ago(revision.created_us, found.now_us)}{by}", end=""
        )
        screen().print(f': "{revision.message}"' if revision.message else "", markup=False, soft_wrap=True)
    if found.rollout is not None:
        rolled = found.rollout
        at = f", {rolled.at}" if rolled.live else ""
        said = f"revision {rolled.revision} is {rolled.state}{at}: crossdock rollout"
        screen().print("[bold]rollout[/]   ", state("running" if rolled.state == "rolling" else "paused", said))
    if found.sources:
        screen().print(_sources(found))
    if found.sinks:
        screen().print(_sinks(found))
    show_throttled(found.agents)
    for summary in found.dead:
        what = words.plural(summary.records, "record")
        screen().print("[bold red]dead[/]", f"{summary.source}: {what}, {summary.code} ({summary.kind})")
    for reminder in found.reminders:
        screen().print(f"[bold]note[/]       {reminder}", soft_wrap=True)
    if found.healthy:
        screen().print("[green]All is well.[/]")
    next_steps(found.next)


def _sources(found: commands.Status) -> object:
    """*queued* is received and not normalized yet. The agent has a column only where its name is not the site's."""
    from crossdock_controller.cli.screen import number, state, table

    named = any(s.agent != s.site for s in found.sources)
    agent = ("agent",) if named else ()
    grid = table("source", "site", *agent, "state", ">outbox", ">received", ">queued", "last batch")
    for source in found.sources:
        grid.add_row(
            source.source, source.site, *((source.agent,) if named else ()), state(source.state),
            number(source.outbox_records, "yellow"), number(source.received_records),
            number(source.waiting_records, "yellow"), words.ago(source.last_received_us, found.now_us),
        )  # fmt: skip
    return grid


def _sinks(found: commands.Status) -> object:
    from crossdock_controller.cli.screen import number, state, table

    by_rules = any(sink.stopped for sink in found.sinks)
    stopped = (">by rules",) if by_rules else ()
    grid = table("sink", "state", ">pending", ">retrying", ">held", *stopped, ">dead", ">oldest", "last done")
    for sink in found.sinks:
        since = words.duration((found.now_us - sink.oldest_us) / 1e6) if sink.oldest_us else "-"
        grid.add_row(
            sink.sink, state(state_of(sink)), number(sink.pending, "yellow"), number(sink.retrying, "yellow"),
            number(sink.held, "yellow"), *((number(sink.stopped, "yellow"),) if by_rules else ()),
            number(sink.dead, "bold red"), since,
            words.ago(sink.last_done_us, found.now_us),
        )  # fmt: skip
    return grid


def state_of(sink: SinkView) -> str:
    """One word: paused, draining, failing (no verdicts at all), retrying, running or idle."""
    if sink.paused or sink.draining:
        return "paused" if sink.paused else "draining"
    if sink.problem:
        return "failing"
    if sink.retrying:
        return "retrying"
    return "running" if sink.pending else "idle"
