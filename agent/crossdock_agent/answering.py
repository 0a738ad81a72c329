"""What a process of its own says to the running agent when the centre asks: the same as the commands of a person here.

One JSON object on stdout: *text* for a person, *value* for a program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from crossdock_agent import check as checking
from crossdock_agent import looking, plain, shapes
from crossdock_agent.settings import Settings
from crossdock_agent.sources.base import Finding

SAMPLE = "first line: "


def check(settings: Settings, *, values: bool) -> dict[str, Any]:
    """What `crossdock-agent check` finds; without *values*, nothing of what a file holds."""
    found = list(checking.check(settings))
    if not values:
        found = [_without_sample(finding) for finding in found]
    return {"text": [line for finding in found for line in said(finding)], "value": msgspec.to_builtins(found)}


def _without_sample(finding: Finding) -> Finding:
    """A sample of a file is told by its first line, or by what is wrong with a record."""
    if not finding.name.endswith("sample"):
        return finding
    told, found, line = finding.detail.partition(SAMPLE)
    if found:
        return replace(finding, detail=f"{told}{found}{shapes.shape(line)}")
    return finding if finding.ok else replace(finding, detail=f"{finding.detail.partition(':')[0]}: {shapes.WITHHELD}")


def said(finding: Finding) -> list[str]:
    line = f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}"
    return [line, f"      next: {finding.hint}"] if not finding.ok and finding.hint else [line]


def try_source(settings: Settings, source: str, records: int, seconds: float, *, values: bool) -> dict[str, Any]:
    """What `crossdock-agent try SOURCE` shows; without *values*, only what they look like. Raises CrossdockError."""
    text, value = looking.answer(settings, source, records=records, seconds=seconds, values=values)
    return {"text": [plain.shown(line, 2000) for line in text], "value": value}
