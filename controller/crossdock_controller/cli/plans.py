"""A plan as it is shown to a person: what is wrong first, then what changes where, then what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossdock_controller.cli import words
from crossdock_controller.cli.approvals import needs_lines

if TYPE_CHECKING:
    from crossdock_controller.config.diff import Change, Plan
    from crossdock_controller.config.policy import Need


def show_plan(plan: Plan, revision: int, ask: str = "", site: str = "", needs: Sequence[Need] = ()) -> None:
    """Problems and changes, those at *site* only when given; *ask* is the directory to apply next."""
    from crossdock_controller.cli.screen import next_steps, screen
    from crossdock_controller.config import words as plan_words
    from crossdock_controller.config.errors import errors_of

    for problem in plan.problems:
        colour = "red" if problem.severity == "error" else "yellow"
        screen().print(f"[bold {colour}]{problem.severity}[/]", plain(problem.text()), soft_wrap=True)
    errors = len(errors_of(plan.problems))
    if errors:
        screen().print(f"\n[bold red]{words.plural(errors, 'error')}: nothing was changed.[/]")
        next_steps(["correct the files above; all errors are shown at once"])
    elif plan.nothing_to_do:
        screen().print(f"Nothing to do: the tree is that of revision {revision}.")
    elif not plan.changes:
        screen().print("Only comments or layout differ.")
    else:
        blocks = plan_words.blocks(plan, site)
        for block in blocks:
            screen().print(plain(block.title, "bold"), soft_wrap=True)
            for change in block.changes:
                _show_change(change)
        if not blocks:
            screen().print(f"Nothing changes at {site}.")
        for line in () if site else plan_words.summary(plan):
            screen().print(plain(line, "dim"), soft_wrap=True)
    if ask and not errors and not plan.nothing_to_do:
        for line in needs_lines(list(needs)):
            screen().print("[yellow]needs[/]", plain(line), soft_wrap=True)
        next_steps([f"crossdock apply {ask} -m MESSAGE"])


def _show_change(change: Change) -> None:
    from crossdock_controller.cli.screen import screen

    mark, colour = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}[change.action]
    screen().print(
        f"  [{colour}]{mark}[/]",
        plain(" ".join(filter(None, (change.part, change.name)))),
        f"[{colour}]{change.action}[/]",
    )
    for key in change.keys:
        screen().print("      ", plain(key.text()), soft_wrap=True)


def plain(text: str, style: str = "") -> object:
    from rich.text import Text

    return Text(text, style=style)
