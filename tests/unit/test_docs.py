"""What the documents point at is there: pages, tests by name, commands of the Makefile."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
WORST_DAYS = ROOT / "docs" / "guide" / "worst-days"


@cache
def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?", text)
    missing = [path for path, _ in tests if not (ROOT / path).exists()]
    assert missing == []
    assert [(path, name) for path, name in tests if name and name not in defined(ROOT / path)] == []


def test_every_command_of_the_makefile_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z][a-z-]*)", page.read_text("utf-8"))}
    assert named - targets == set()


def test_every_page_of_a_worst_day_is_in_the_index() -> None:
    index = (WORST_DAYS.parent / "worst-days.md").read_text("utf-8")
    listed = set(re.findall(r"worst-days/([\w-]+\.md)", index))
    assert listed == {page.name for page in WORST_DAYS.glob("*.md")}
