"""The agent's small YAML reader reads source files as the controller does, or refuses them."""
# ruff: noqa: E501 - awkward lines are what is tested

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from crossdock.errors import ConfigError
from crossdock_agent import plain_yaml
from crossdock_controller.config import yaml
from support.trees import SMALL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text("utf-8")
FILES = {
    **{path.name: path.read_text("utf-8") for path in sorted((ROOT / "examples").rglob("config/**/*.yaml"))},
    **{f"page {i}": text for i, text in enumerate(re.findall(r"```yaml\n(source: .*?)```", PAGE, re.DOTALL))},
    **{name: dedent(text) for name, text in SMALL.items()},
}


@pytest.mark.parametrize("name", FILES)
def test_the_configuration_files_of_this_project_read_as_the_controller_reads_them(name: str) -> None:
    theirs = yaml.parse(name, FILES[name])
    assert theirs.problems == []
    assert plain_yaml.parse(name, FILES[name]) == theirs.value


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: -2.5\nc: true\nd: null\ne:\nf: ~\ng: NO\nh: 12:30:00\ni: 007\nj: 1_000\nk: 2026-01-31\nl: 1234567890123456789",
        "a: \"x # y\" # comment\nb: 'it''s: {so}'\nc: it's # fine\nd: a#b\ne: http://x:8/y#z\n'f g': \"t\\tab \\u00e4\"",
        "---\na:\n- 1\n- b: 2\n  c: 3\n-\n  d: 4\n- [5, {e: f}]\n- 'g'\nh:\n  - i\n  -\n    - j",
        "a: {b: 1, c: [x, 'y, z', \"q\\\"r\"], d: {}, e: [], f: null, g: a b, h: D:/x, i: }\nj: [\n  1, # one\n  2\n]",
        "a: |\n  SELECT *\n    FROM t -- # no comment\n\n  WHERE x\nb: >-\n  one\n  two\n\n  three\nc: |-\n  x\nd: 1",
        "a: one\n  two\n   three\nb: x",
        "# only\n\n# comments\na: x\n\n  # indented\nb: y",
        "odbc: \"DRIVER={x};PWD={secret:db}\"\nconnection: {odbc: 'DSN=a;PWD={secret:b}', dialect: postgresql}",
        "where: s.a > 1 AND s.b = 'x'\nquiet: [\"12:00-13:30\", mon-fri 06:00-09:00]\nschedule: {cron: \"*/15 * * * *\"}",
    ],
)  # fmt: skip
def test_awkward_but_plain_yaml_reads_as_the_controller_reads_it(text: str) -> None:
    theirs = yaml.parse("x", text)
    assert theirs.problems == []
    assert plain_yaml.parse("x", text) == theirs.value


def test_a_line_of_many_quoted_names_is_looked_at_once() -> None:
    where = " AND ".join(f'o."C{i}"=p."D{i}"' for i in range(40))
    text = f"where: {where} AND s = 'it\n  goes on'"
    assert plain_yaml.parse("x", text) == yaml.parse("x", text).value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1\nb: *x", 1), ("a: 1\nb: !!str 2", 2), ("a: 1\n\tb: 2", 2), ("a: 1\na: 2", 2), ("a: {b: 1", 1),
        ("a: 1\n   b: 2\n  c: 3", 2), ('a: "open\n  closed"', 1), ("a: 1\njust words", 2), ("a: [1] x", 1), ("a: |2\n  b", 1),
        ("- a\n- b", 0), ("", 0), ("a: [b: c", 1), ("a: {b c} d: {", 1), ("a: @b", 1),
    ],
)  # fmt: skip
def test_what_it_does_not_understand_is_refused_and_never_guessed(text: str, line: int) -> None:
    try:
        value = plain_yaml.parse("f.yaml", text)
    except ConfigError as error:
        assert error.message.startswith(f"f.yaml:{line}: " if line else "f.yaml holds no"), error.message  # noqa: PT017
    else:
        assert value == yaml.parse("f.yaml", text).value
