"""`crossdock diff`, `approvals`, `approve`, `reject`: a second person looks before a change is in force."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import approvals as commands
from crossdock_controller.commands import diffs
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.approvals import ProposalView, Settled
    from crossdock_controller.config.policy import Need


@click.command()
@click.argument("revision", metavar="REV")
@click.argument("other", metavar="[REV2]", default="")
@click.option("--files", is_flag=True, help="The lines of the files as well.")
@data_option
@json_option
def diff(revision: str, other: str, files: bool, data: DataDirectory, as_json: bool) -> None:
    """The page to read before approving: what REV changed, who, when and why; or the way from REV to REV2.

    REV is a number, the beginning of a hash, or p3 for a proposal.
    """
    require_data(data)
    page = diffs.page(data, revision, other)
    if as_json:
        emit({**_as_json(page), "files": page.files if files else [f.path for f in page.files]})
        return
    _show_page(page)
    if files:
        _show_files(page.files)


@click.command()
@click.option("--all", "everything", is_flag=True, help="What is settled, too.")
@data_option
@json_option
def approvals(everything: bool, data: DataDirectory, as_json: bool) -> None:
    """Changes that wait for a second person, and those that are in force without one."""
    require_data(data)
    found = commands.approvals(data, everything=everything)
    if as_json:
        emit({"proposals": found})
        return
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("Nothing waits for a second person.")
        return
    grid = table("name", "state", "by", "proposed", "~message", "~waits for")
    for proposal in found:
        mark = state({"unconfirmed": "open", "open": "waiting"}.get(proposal.state, "done"), proposal.state)
        waits = _waits(proposal)
        grid.add_row(
            proposal.name, mark, proposal.by, words.minute(proposal.created_us), proposal.message or "-", waits
        )
    screen().print(grid)
    waiting = [p for p in found if p.missing]
    if waiting:
        next_steps([f"crossdock diff {waiting[0].name}", f"crossdock approve {waiting[0].name}"])


@click.command()
@click.argument("revision", metavar="REV")
@click.option("--comment", default="", help="For the record.")
@data_option
@json_option
def approve(revision: str, comment: str, data: DataDirectory, as_json: bool) -> None:
    """Say yes to REV (p3, or the beginning of a hash). With the last person that was missing it is in force.

    For a revision that broke the glass: that you have looked at it. Nobody approves their own change.
    """
    require_data(data)
    _answer(commands.approve(data, revision, actor(), time.time_ns() // 1000, comment=comment), as_json)


@click.command()
@click.argument("revision", metavar="REV")
@click.option("--because", required=True, help="Why not; its author reads it.")
@data_option
@json_option
def reject(revision: str, because: str, data: DataDirectory, as_json: bool) -> None:
    """Say no to REV (p3, or the beginning of a hash); it is never put in force. Its author may also take it back."""
    require_data(data)
    _answer(commands.reject(data, revision, actor(), because, time.time_ns() // 1000), as_json)


def needs_lines(needs: tuple[Need, ...] | list[Need]) -> list[str]:
    """Why a second person is needed, one line a rule."""
    lines = []
    for need in needs:
        people = "a second person" if need.people == 1 else f"{need.people} people besides its author"
        paths = f" ({', '.join(need.paths[:5])}{' ...' if len(need.paths) > 5 else ''})" if need.paths else ""
        lines.append(f"{people}, for {need.rule}{paths}")
    return lines


def _answer(settled: Settled, as_json: bool) -> None:
    if as_json:
        emit(settled)
        return
    from crossdock_controller.cli.screen import next_steps, screen

    if settled.missing:
        waits = "waits for" if settled.state == "open" else "is in force and still waits for"
        screen().print(f"{settled.name} {waits} {words.plural(settled.missing, 'more person', 'more people')}.")
    elif settled.state == "rejected":
        screen().print(f"{settled.name} is rejected and is never put in force.")
    elif settled.state == "confirmed":
        screen().print(f"[green]Revision {settled.revision} is confirmed.[/]")
    elif settled.in_waves:
        screen().print(f"[green]Revision {settled.revision} is rolled out in waves.[/]")
        next_steps(["crossdock rollout shows where it is"])
    else:
        screen().print(f"[green]Revision {settled.revision} is in force.[/]")


def _waits(proposal: ProposalView) -> str:
    if proposal.state == "unconfirmed":
        return f"a second look; in force as revision {proposal.revision}: {proposal.reason}"
    if proposal.missing:
        given = ", ".join(a.actor for a in proposal.approvals)
        rest = words.plural(proposal.missing, "person", "people")
        return f"{rest}; approved by {given}" if given else f"{rest} other than {proposal.by}"
    if proposal.state == "stale":
        return f"nobody: revision {proposal.base} is no longer in force"
    return proposal.reason or (f"revision {proposal.revision}" if proposal.revision else "-")


def _show_page(page: diffs.Page) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import next_steps, screen
    from crossdock_controller.config import words as plan_words

    out = screen()
    head = [("change", f"{page.before} to {page.after}, tree {page.hash[:12]}")]
    head += [("environment", page.environment)] if page.environment else []
    head += [("by", page.by), ("at", words.minute(page.created_us)), ("why", page.message or "-")]
    for need in needs_lines(page.needs):
        head.append(("needs", need))
    proposal = page.proposal
    if proposal is not None:
        head.append(("state", proposal.state + (f": {proposal.reason}" if proposal.reason else "")))
        head += [("promoted", proposal.promoted)] if proposal.promoted else []
        for given in proposal.approvals:
            comment = f": {given.comment}" if given.comment else ""
            head.append(("approved", f"{given.actor} at {words.minute(given.at_us)}{comment}"))
    for word, value in head:
        out.print(Text.assemble((f"{word:<12}", "bold"), value), soft_wrap=True)
    out.print()
    out.print(Text(plan_words.text(page.plan)), soft_wrap=True)
    out.print()
    out.print(Text.assemble(("files       ", "bold"), ", ".join(f"{f.path} ({f.action})" for f in page.files) or "-"))
    reached = sorted({*page.plan.touched} - {f.path for f in page.files})
    if reached:
        out.print(Text.assemble(("reaches     ", "bold"), ", ".join(reached)), soft_wrap=True)
    if proposal is not None and proposal.missing:
        next_steps([f"crossdock approve {proposal.name}, or reject {proposal.name} --because WHY"])


def _show_files(files: list[diffs.FileDiff]) -> None:
    from rich.text import Text

    from crossdock_controller.cli.screen import screen

    for file in files:
        screen().print()
        screen().print(Text(f"{file.path} ({file.action})", style="bold"))
        for line in file.lines:
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            screen().print(Text(line, style=colour), soft_wrap=True)


def _as_json(page: diffs.Page) -> dict[str, object]:
    return {
        "from": page.before, "to": page.after, "hash": page.hash, "environment": page.environment, "by": page.by,
        "created_us": page.created_us, "message": page.message, "needs": page.needs, "proposal": page.proposal,
        "plan": page.plan.as_json(),
    }  # fmt: skip
