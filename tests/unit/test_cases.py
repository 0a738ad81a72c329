"""The page of cases names real tests, and leaves no case out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reference" / "cases.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))
OPEN = ("Not there yet", "Does not apply", "Published, not asserted", "The same bytes")
TABLES = [re.findall(r"^\| (\d+) \| (.+?) \| (.+) \|$", part, re.MULTILINE) for part in PAGE.split("\n## ")[1:]]


@cache
def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_each_test_named_on_the_page_exists(file: str, name: str) -> None:
    assert name in defined(TESTS / file)


def test_no_case_is_left_out_and_none_is_without_a_test_or_a_word() -> None:
    numbers = [[int(number) for number, _, _ in table] for table in TABLES]
    assert numbers == [list(range(1, 53)), list(range(1, 40)), list(range(1, 6))]
    for table in TABLES:
        for number, case, text in table:
            assert "::" in text or text.startswith(OPEN), (
                number,
                case,
            )
