"""From measurements to the table: rates, CPU seconds per million records, peak memory, and the ratios aimed at."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """One part in one round."""

    part: str
    seconds: float
    records: int
    processes: list[dict[str, Any]]  # name, cpu_seconds, peak_rss_mb

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    def cpu_per_million(self) -> float:
        return sum(p["cpu_seconds"] for p in self.processes) / self.records * 1e6


@dataclass(frozen=True, slots=True)
class Aim:
    """*left*'s rate over *right*'s, or *left*'s CPU seconds per million when *right* is empty."""

    text: str
    left: str
    right: str
    bound: float

    def judge(self, rounds: dict[str, list[Measurement]]) -> tuple[float, bool] | None:
        """(value, met), or None when a part it needs was not measured."""
        if self.left not in rounds or (self.right and self.right not in rounds):
            return None
        if not self.right:
            value = median(m.cpu_per_million() for m in rounds[self.left])
            return value, value <= self.bound
        value = median(m.rate for m in rounds[self.left]) / median(m.rate for m in rounds[self.right])
        return value, value >= self.bound


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    machine: dict[str, Any]
    setting: dict[str, Any]
    titles: dict[str, str]  # of each part, in the order of the table
    aims: tuple[Aim, ...]
    measurements: list[Measurement] = field(default_factory=list)

    def rounds(self) -> dict[str, list[Measurement]]:
        found: dict[str, list[Measurement]] = {}
        for measurement in self.measurements:
            found.setdefault(measurement.part, []).append(measurement)
        return found

    def write(self, directory: Path, name: str) -> str:
        """Writes name.json and name.md; the Markdown."""
        directory.mkdir(parents=True, exist_ok=True)
        text = self.markdown()
        (directory / f"{name}.md").write_text(text, "utf-8")
        (directory / f"{name}.json").write_text(json.dumps(self.as_json(), indent=2) + "\n", "utf-8")
        return text

    def as_json(self) -> dict[str, Any]:
        rounds = self.rounds()
        judged = [(aim, aim.judge(rounds)) for aim in self.aims]
        return {
            "title": self.title,
            "machine": self.machine,
            "setting": self.setting,
            "measurements": [
                {
                    **asdict(m),
                    "records_per_second": round(m.rate),
                    "cpu_seconds_per_million": round(m.cpu_per_million(), 2),
                }
                for m in self.measurements
            ],
            "aims": [{"aim": a.text, "value": round(v[0], 2), "met": v[1]} for a, v in judged if v is not None],
        }

    def markdown(self) -> str:
        lines = [f"# {self.title}", "", *_pairs(self.setting), *_pairs(self.machine), ""]
        lines += [
            "| | records/s | seconds | CPU s per million | process: CPU s per million, peak RSS |",
            "|---|--:|--:|--:|---|",
        ]
        rounds = self.rounds()
        for part, title in self.titles.items():
            if part in rounds:
                lines.append(_row(title, rounds[part]))
        judged = [(aim, aim.judge(rounds)) for aim in self.aims]
        if any(verdict is not None for _, verdict in judged):
            lines += ["", "| aim | measured | |", "|---|--:|---|"]
            lines += [f"| {a.text} | {v[0]:.2f} | {'met' if v[1] else 'missed'} |" for a, v in judged if v is not None]
        return "\n".join(lines) + "\n"


def _row(title: str, rounds: list[Measurement]) -> str:
    """The median round by rate, with all rates where there are several."""
    middle = sorted(rounds, key=lambda m: m.rate)[len(rounds) // 2]
    processes = "<br>".join(
        f"{p['name']}: {p['cpu_seconds'] / middle.records * 1e6:.2f}, {p['peak_rss_mb']:.0f} MB"
        for p in middle.processes
    )
    rates = f"{middle.rate:,.0f}"
    if len(rounds) > 1:
        rates += f" ({', '.join(f'{m.rate / 1000:,.0f}k' for m in rounds)})"
    return f"| {title} | {rates} | {middle.seconds:.1f} | {middle.cpu_per_million():.2f} | {processes} |"


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in values.items() if value is not None]
