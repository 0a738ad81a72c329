"""`crossdock mapping test|try|diff|replay`: around a change of a mapping, in the order of their use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossdock_controller.cli import remap, words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import data_option, json_option
from crossdock_controller.cli.output import emit
from crossdock_controller.cli.preview import diff
from crossdock_controller.commands import mappings as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import Elsewhere

if TYPE_CHECKING:
    from crossdock_controller.samples.trying import Tried, TriedDocument

SHOWN_DOCUMENTS = 3
SHOWN_DEAD = 10
VALUE_CHARACTERS = 60


@click.group()
def mapping() -> None:
    """Mappings: try them on a file, test them, see what a change would do, and make it of what came before."""


@mapping.command("test")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--test", "names", multiple=True, metavar="NAME", help="Only this one; may be given several times.")
@click.option("--environment", default="", metavar="NAME", help="As it is there, in a tree with environments.")
@data_option
@json_option
def run_tests(directory: Path, names: tuple[str, ...], environment: str, data: DataDirectory, as_json: bool) -> None:
    """Run the tests of the mappings in DIR: its files tests/*.yaml. No controller is needed.

    Exit code 1 when one fails. `plan` and `apply` run the same tests.
    """
    from crossdock_controller.config.errors import errors_of

    found = commands.run_tests(_here(data), directory, names, environment)
    if as_json:
        problems = [problem.as_json() for problem in found.problems]
        tests = [
            {
                "test": t.test, "file": t.file, "mapping": t.mapping, "site": t.site, "passed": not t.problems,
                "seconds": round(t.seconds, 4), "problems": [problem.as_json() for problem in t.problems],
            }
            for t in found.tests
        ]  # fmt: skip
        emit({"tests": tests, "failed": found.failed, "problems": problems})
    else:
        _show_tests(found)
    if found.failed or errors_of(found.problems):
        raise click.exceptions.Exit(PROBLEM)


@mapping.command("try")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--mapping", "name", required=True, metavar="NAME", help="The mapping, or its source.")
@click.option("--site", default="", metavar="NAME", help="As at this site; without it the first that has the source.")
@click.option("--config", "directory", type=click.Path(path_type=Path), metavar="DIR", help="By the tree in DIR.")
@click.option("--environment", default="", metavar="NAME", help="As it is there, in a tree with environments.")
@click.option(
    "--records", type=click.IntRange(1, 10_000), default=commands.RECORDS, show_default=True, help="The first so many."
)
@click.option("--all", "everything", is_flag=True, help="Show every document, not the first few.")
@data_option
@json_option
def try_file(
    file: Path,
    name: str,
    site: str,
    directory: Path | None,
    environment: str,
    records: int,
    everything: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Show what FILE becomes, field by field, by the tree in --config or the revision in force. Nothing is stored."""
    found = commands.try_file(
        _here(data), file, name, site=site, directory=directory, records=records, environment=environment
    )
    if as_json:
        emit(found)
        return
    _show_tried(found, everything)


def _here(data: DataDirectory) -> DataDirectory | None:
    """These commands work on files of this machine, whatever controller is named."""
    return None if isinstance(data, Elsewhere) else data


def _show_tests(found: commands.TestRun) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import next_steps, screen

    for problem in found.problems:
        colour = "red" if problem.severity == "error" else "yellow"
        screen().print(f"[bold {colour}]{problem.severity}[/]", plain(problem.text()), soft_wrap=True)
    for tested in found.tests:
        mark, colour = ("failed", "bold red") if tested.problems else ("passed", "green")
        screen().print(f"[{colour}]{mark}[/]", plain(f"{tested.test}  {tested.mapping} at {tested.site}"))
        for problem in tested.problems:
            place = f"{problem.file}:{problem.line}"
            screen().print("   ", plain(f"{place}: {problem.message}"), soft_wrap=True)
    if found.tests:
        passed = len(found.tests) - found.failed
        screen().print(f"{passed} passed, {found.failed} failed")
    elif not found.problems:
        screen().print("There are no tests.")
        next_steps(["write tests/NAME.yaml beside the mappings: docs/guide/changing-a-mapping.md"])


def _show_tried(found: Tried, everything: bool) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import screen

    more = "" if found.whole else ", and there is more"
    said = f"{found.file}: {words.plural(found.records, 'record')} read as {found.format}{more}"
    screen().print(plain(f"{said}, by {found.source} at {found.site}"), soft_wrap=True)
    ignored = sum(found.ignored.values())
    dead = sum(d.records for d in found.dead)
    screen().print(
        plain(
            f"{words.plural(len(found.documents), 'document')}, {words.plural(dead, 'dead record')}, {ignored} ignored"
        )
    )
    shown = found.documents if everything else found.documents[:SHOWN_DOCUMENTS]
    for document in shown:
        _show_document(document)
    if len(shown) < len(found.documents):
        screen().print(f"\n[dim]and {len(found.documents) - len(shown)} more documents: --all shows them[/]")
    for reason, count in found.ignored.items():
        screen().print("[dim]ignored[/]", plain(f"{words.plural(count, 'record')}: {reason}"), soft_wrap=True)
    for letter in found.dead if everything else found.dead[:SHOWN_DEAD]:
        field = f" (field {letter.field})" if letter.field else ""
        screen().print(
            "[bold red]dead[/]", plain(f"{letter.where}: {letter.code}: {letter.reason}{field}"), soft_wrap=True
        )
    if not everything and len(found.dead) > SHOWN_DEAD:
        screen().print(f"[dim]and {len(found.dead) - SHOWN_DEAD} more dead letters: --all shows them[/]")


def _show_document(document: TriedDocument) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import screen, table

    screen().print()
    records = words.plural(document.records, "record")
    screen().print(plain(f"{document.document} {document.key}", "bold"), plain(f"{document.where}, {records}", "dim"))
    grid = table("field", "~value", "~from")
    for entry in document.fields:
        behind = ", ".join(f"{column} {_text(value)}" for column, value in entry.columns.items())
        grid.add_row(entry.field, _text(entry.value), behind or "(constant)")
    screen().print(grid)
    for warning in document.warnings:
        screen().print("[yellow]warning[/]", plain(warning), soft_wrap=True)


def _text(value: Any) -> str:
    """A value as a person reads it; an amount or quantity with its unit."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        text = " ".join(str(part) for part in value.values() if part not in (None, ""))
    else:
        text = repr(value) if isinstance(value, str) and value != value.strip() else str(value)
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


mapping.add_command(diff)
for _command in (remap.replay, remap.replays, remap.cancel):
    mapping.add_command(_command)
