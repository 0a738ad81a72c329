"""The result of one or more runs as a table of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chaos.run import Outcome
from chaos.schedule import KINDS


def markdown(outcomes: Sequence[Outcome], command: str) -> str:
    """Faults by kind and count, then one line for each seed."""
    total: Counter[str] = Counter()
    targets: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for (kind, target), count in outcome.injected.items():
            total[kind] += count
            targets.setdefault(kind, Counter())[target] += count
    lines = [f"`{command}`", "", "| fault | times | of which |", "| --- | ---: | --- |"]
    for known in KINDS:
        parts = ", ".join(f"{target} {n}" for target, n in sorted(targets.get(known.name, Counter()).items()))
        lines.append(f"| {known.title} | {total[known.name]} | {parts} |")
    lines += [f"| all | {sum(total.values())} | |", ""]
    effects: Counter[str] = sum((outcome.effects for outcome in outcomes), Counter())
    lines += ["| what it did | times |", "| --- | ---: |"]
    lines += [f"| {name} | {count} |" for name, count in effects.items()] + [""]
    lines += ["| seed | seconds | faults | records | arrived | drained in | verdict |",
              "| ---: | ---: | ---: | ---: | ---: | ---: | --- |"]  # fmt: skip
    for o in outcomes:
        verdict = "balanced" if not o.verdict.findings else f"{len(o.verdict.findings.sentences)} findings"
        lines.append(
            f"| {o.seed} | {o.seconds:.0f} | {sum(o.injected.values())} | {o.verdict.records} | {o.verdict.arrived} |"
            f" {o.drain_seconds:.0f} s | {verdict} |"
        )
    good = sum(1 for o in outcomes if not o.verdict.findings)
    lines += [
        "",
        f"{good} of {len(outcomes)} seeds balanced, {sum(o.verdict.records for o in outcomes)} records given.",
    ]
    return "\n".join(lines) + "\n"
