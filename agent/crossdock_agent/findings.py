"""What `check` found, in words; and without what a file holds, where that may not leave the site."""

from __future__ import annotations

from dataclasses import replace

from crossdock_agent import shapes
from crossdock_agent.sources.base import Finding

SAMPLE = "first line: "


def without_sample(finding: Finding) -> Finding:
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
