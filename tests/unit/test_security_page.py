"""The threat model: each threat has a control, and a test that attacks it (that they exist, `test_docs` sees to)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")


def threats() -> list[list[str]]:
    """The cells of every row below a heading "threat | control | test"."""
    found: list[list[str]] = []
    inside = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells == ["threat", "control", "test"]:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-", " "} and not cells[0].startswith("---"):
            found.append(cells)
    return found


def test_every_threat_has_a_control_and_a_test_that_attacks_it() -> None:
    assert len(threats()) > 30
    for cells in threats():
        assert len(cells) == 3, cells
        threat, control, tests = cells
        assert threat, cells
        assert control, cells
        assert re.search(r"`tests/[\w/]+\.py(::\w+)?`", tests), cells


def test_every_attack_in_the_folder_of_attacks_is_on_the_page() -> None:
    for path in (ROOT / "tests" / "security").glob("test_*.py"):
        assert f"tests/security/{path.name}" in PAGE


def test_what_is_not_defended_is_said() -> None:
    assert PAGE.count("\n- **") >= 8
