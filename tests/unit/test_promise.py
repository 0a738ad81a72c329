"""The page of the promise names real tests, and each of the ten rules names some."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from crossdock.siteconfig import OutboxConfig
from crossdock_controller.sinks.file import REMEMBERED

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reference" / "promise.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@cache
def defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_each_test_named_on_the_page_exists(file: str, name: str) -> None:
    assert name in defined(TESTS / file)


def test_each_file_named_on_the_page_exists() -> None:
    assert all((TESTS / file).exists() for file in re.findall(r"`([\w/]+\.py)`", PAGE))


def test_each_rule_names_the_tests_that_break_it() -> None:
    rules = re.findall(r"^\*\*(\d+)\. (.+?)(?=^\*\*\d+\. |^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in rules] == list(range(1, 11))
    assert all(text.count("::") >= 2 for _, text in rules)


def test_the_numbers_on_the_page_are_those_of_the_product() -> None:
    assert f"last {REMEMBERED:,} event ids" in PAGE
    assert f"`outbox.keep_acknowledged_hours`, {OutboxConfig().keep_acknowledged_hours:.0f}," in PAGE
