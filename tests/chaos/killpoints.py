"""The kill-point sweep: the fixed transfer, once for each moment at which a process can die.

    python tests/chaos/killpoints.py [--every N] [--power] [--first-start] [--jobs 2] [--out DIR]

A counting run lists every point; then each gets a run of its own in which the process dies there and is started anew,
and the ledger is compared. A point that a run did not come to is tried once more and else counted as not reached, never
as passed. Prints a table in Markdown; exits 1 when any run broke a promise. DIR gets table.md and a log of each.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import power
from chaos.points import Event, Point
from chaos.sweeping import Outcome, Run
from chaos.transfer import Ground


@dataclass(frozen=True, slots=True)
class Case:
    """A point, and what happens there: "" kills the process, else what the power cut leaves (`power.OUTCOMES`)."""

    point: Point
    cut: str = ""

    def __str__(self) -> str:
        return f"{'power cut (' + self.cut + ')' if self.cut else 'SIGKILL'} {self.point}"


@dataclass(slots=True)
class Result:
    case: Case
    outcome: Outcome

    @property
    def verdict(self) -> str:
        if self.outcome.faults:
            return "broken"
        return "passed" if self.outcome.reached else "not reached"


@dataclass(slots=True)
class Sweep:
    """Runs cases on *jobs* grounds at a time, each in a directory of its own below *directory*."""

    directory: Path
    jobs: int
    first: bool = False  # the first start and the enrolment instead
    grounds: SimpleQueue[tuple[Ground, Path]] = field(default_factory=SimpleQueue)
    counted: list[Event] = field(default_factory=list)

    def prepare(self) -> None:
        for n in range(self.jobs):
            ground = Ground(self.directory / f"slot{n}")
            self.grounds.put((ground, self.directory / f"work{n}"))

    def count(self) -> Outcome:
        """The points of a run in which nobody dies."""
        outcome = self._run(None, "")
        self.counted = outcome.events
        return outcome

    def run(self, cases: Sequence[Case], each: Callable[[Result], None]) -> list[Result]:
        """*each* gets every result at once. An interrupt ends it after the runs under way."""
        pool = ThreadPoolExecutor(self.jobs)
        try:
            results = []
            for done in as_completed([pool.submit(self._case, case) for case in cases]):
                results.append(done.result())
                each(results[-1])
            return results
        finally:
            pool.shutdown(cancel_futures=True)

    def _case(self, case: Case) -> Result:
        outcome = self._run(case.point, case.cut)
        if not outcome.reached and not outcome.faults:
            outcome = self._run(case.point, case.cut)
        return Result(case, outcome)

    def _run(self, point: Point | None, cut: str) -> Outcome:
        ground, work = self.grounds.get()
        try:
            return Run(ground, work, point, cut, first=self.first)()
        finally:
            self.grounds.put((ground, work))


def cases(events: Iterable[Event], *, powerful: bool = False) -> list[Case]:
    """Both sides of each event; of a write only before it: what follows it comes before something else.

    *powerful*: power cuts instead of kills, each with both outcomes. What was written and not synced is gone then, so
    that only the moments around syncs and changes of names differ.
    """
    found = []
    for event in events:
        if event.call == "write":
            if not powerful:
                found.append(Case(Point(event, "before")))
            continue
        for moment in ("before", "after"):
            found += [Case(Point(event, moment), cut) for cut in (power.OUTCOMES if powerful else ("",))]
    return found


def table(results: Sequence[Result]) -> str:
    """Markdown: process, kind of point, and how many runs there were and how they ended."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        event = result.case.point.event
        rows.setdefault((event.process, event.kind), Counter())[result.verdict] += 1
    lines = ["| process | dies around | runs | passed | not reached | broken |", "|---|---|---:|---:|---:|---:|"]
    total: Counter[str] = Counter()
    for (process, kind), counts in sorted(rows.items()):
        total += counts
        lines.append(_row(process, kind, counts))
    return "\n".join([*lines, _row("**all**", "", total)])


def report(results: Sequence[Result]) -> str:
    """The table, and in one sentence how many there were, of them at commits and renames, and how they ended."""
    kinds = Counter(r.case.point.event.kind for r in results)
    verdicts = Counter(r.verdict for r in results)
    what = "power cuts" if any(r.case.cut for r in results) else "kills"
    return (
        f"{table(results)}\n\n{len(results)} {what}, of them {kinds['commit']} around SQLite commits and"
        f" {kinds['rename']} around renames: {verdicts['passed']} passed, {verdicts['not reached']} not reached,"
        f" {verdicts['broken']} broken.\n"
    )


def _row(process: str, kind: str, counts: Counter[str]) -> str:
    cells = [process, kind, counts.total(), counts["passed"], counts["not reached"], counts["broken"]]
    return "| " + " | ".join(map(str, cells)) + " |"


class _Progress:
    """A line and the table so far each ten runs, and each broken one at once: a sweep that is stopped leaves them."""

    def __init__(self, total: int, out: Path | None) -> None:
        self._total, self._out, self._started = total, out, time.monotonic()
        self._done: Counter[str] = Counter()
        self._results: list[Result] = []

    def __call__(self, result: Result) -> None:
        self._done[result.verdict] += 1
        self._results.append(result)
        if result.verdict == "broken":
            self._broken(result)
        if len(self._results) % 10 == 0 or len(self._results) == self._total:
            said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._done.items()))
            seconds = time.monotonic() - self._started
            print(f"{len(self._results)}/{self._total} in {seconds:.0f} s: {said}", flush=True)
            if self._out:
                (self._out / "table.md").write_text(report(self._results), "utf-8")

    def _broken(self, result: Result) -> None:
        print(f"BROKEN: {result.case}", *result.outcome.faults, *result.outcome.lost, sep="\n    ", flush=True)
        if self._out:
            outcome, path = result.outcome, self._out / f"broken-{self._done['broken']}.log"
            said = "\n".join([str(result.case), *outcome.faults, *outcome.lost, outcome.log])
            path.write_text(said, "utf-8")
            print(f"    log: {path}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="each n-th point alone")
    parser.add_argument("--from", dest="begin", type=int, default=0, help="with --every: begin with this one")
    parser.add_argument("--power", action="store_true", help="power cuts of a whole machine instead of kills")
    parser.add_argument("--first-start", action="store_true", help="the controller's first start and the enrolment")
    parser.add_argument("--jobs", type=int, default=2, help="transfers at a time")
    parser.add_argument("--only", default="", help="points whose text contains this")
    parser.add_argument("--skip", default="", help="a kind of points to leave out, as in the table")
    parser.add_argument("--out", type=Path, help="directory for table.md and the logs of broken runs")
    chosen = parser.parse_args(arguments)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it started, as at Ctrl-C
    directory = Path(tempfile.mkdtemp(prefix="crossdock-killpoints-"))
    try:
        return sweep(chosen, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep(chosen: argparse.Namespace, directory: Path) -> int:
    made = Sweep(directory, chosen.jobs, chosen.first_start)
    made.prepare()
    counting = made.count()
    if counting.faults:
        print("the transfer fails though nobody dies:", *counting.faults, counting.log, sep="\n")
        return 2
    due = [c for c in cases(counting.events, powerful=chosen.power) if chosen.only in str(c)]
    due = [c for c in due if c.point.event.kind != chosen.skip]
    due = due[chosen.begin :: chosen.every]
    print(f"{len(counting.events)} events in a transfer of {counting.seconds:.1f} s; {len(due)} runs", flush=True)
    started = time.monotonic()
    results = made.run(due, _Progress(len(due), chosen.out))
    print(f"{(time.monotonic() - started) / 60:.0f} minutes\n\n{report(results)}")
    return int(any(r.verdict == "broken" for r in results))


if __name__ == "__main__":
    sys.exit(main())
