"""YAML as an operator writes it, and as an attacker would."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock import yamlfile
from crossdock.yamlfile import dotted, parse


def only_problem(text: str) -> tuple[int, str, str]:
    (problem,) = parse("x.yaml", text).problems
    return problem.line, problem.path, problem.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("no", "no"),
        ("on", "on"),
        ("True", "True"),
        ("12:30:00", "12:30:00"),
        ("2026-01-31", "2026-01-31"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("1.2.3", "1.2.3"),
        ("+5", "+5"),
        ("12345678901234567890", "12345678901234567890"),
        ("1.00000000000000001", "1.00000000000000001"),
        ("'5'", "5"),
        ("'true'", "true"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
    ],
)
def test_only_what_json_calls_a_number_or_a_constant_is_not_text(text: str, value: object) -> None:
    file = parse("x.yaml", f"key: {text}\n")
    assert file.problems == []
    assert file.value == {"key": value}
    assert type(file.value["key"]) is type(value)


def test_a_key_is_always_text() -> None:
    assert parse("x.yaml", "NO: 1\n5: 2\n01: 3\ntrue: 4\n").value == {"NO": 1, "5": 2, "01": 3, "true": 4}


def test_every_path_has_its_line() -> None:
    file = parse("x.yaml", "site: a\nlabels:\n  region: us\nlist:\n  - x\n  - {y: 1,\n     z: 2}\n")
    lines = {dotted(path): mark.line for path, mark in file.lines.items()}
    assert lines == {
        "": 1, "site": 1, "labels": 2, "labels.region": 3, "list": 4, "list[0]": 5, "list[1]": 6, "list[1].y": 6,
        "list[1].z": 7,
    }  # fmt: skip
    assert file.mark(("list", 1, "not there")).line == 6


def test_a_doubled_key_is_refused_with_both_lines_and_the_rest_is_still_read() -> None:
    file = parse("x.yaml", "site: a\nlabels:\n  region: us\n  zone: z\n  region: eu\nsite: b\n")
    assert [(p.line, p.path, p.message) for p in file.problems] == [
        (5, "labels.region", "is set twice; first in line 3"),
        (6, "site", "is set twice; first in line 1"),
    ]
    assert file.value == {"site": "a", "labels": {"region": "us", "zone": "z"}}


def test_an_alias_is_expanded_and_its_paths_have_the_line_of_the_alias() -> None:
    file = parse("x.yaml", "a: &here {b: [1, 2]}\nc: *here\n")
    assert file.value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert file.mark(("c", "b", 1)).line == 2
    file.value["c"]["b"].append(3)
    assert file.value["a"] == {"b": [1, 2]}


def test_an_alias_bomb_ends_at_the_limit_not_in_memory() -> None:
    layers = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    layers += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
    ]
    started = time.monotonic()
    line, path, message = only_problem("\n".join(layers))
    assert (line, path) == (5, "")
    assert message == f"has more than {yamlfile.MAX_VALUES} values, aliases counted"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "a: " + "{a: " * 50_000,
        "- " * 50_000 + "x",
        "x:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 900)),
    ],
)
def test_deep_nesting_is_refused_quickly(text: str) -> None:
    started = time.monotonic()
    assert only_problem(text)[2] == f"is nested more than {yamlfile.MAX_DEPTH} levels deep"
    assert time.monotonic() - started < 5


def test_a_huge_file_is_refused_without_being_read() -> None:
    started = time.monotonic()
    assert only_problem("a: 1\n" * 1_000_000)[2].startswith("has 5000000 characters")
    assert time.monotonic() - started < 1


def test_a_file_of_nothing_but_mistakes_stops_at_a_hundred_problems() -> None:
    assert len(parse("x.yaml", "a: 1\n" * 10_000).problems) == yamlfile.MAX_PROBLEMS


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("site: a\nlabels:\n\tregion: us\n", 3, "found character '\\t' that cannot start any token"),
        ("a: 'open\nb: 1\n", 3, "found unexpected end of stream, while scanning a quoted scalar"),
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("a: [1, 2\nb: 3\n", 2, "expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "is not allowed"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        ("a: &x [*x]\n", 1, "contains itself"),
        ("a: *x\n", 1, "has no anchor before it"),
        ("? [a]\n: b\n", 1, "a key must be plain text"),
        ("a: 1\nb: \x07\n", 2, "special characters are not allowed"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    found = only_problem(text)
    assert found[0] == line
    assert message in found[2]


def test_hints_name_the_next_step() -> None:
    assert parse("x.yaml", "a:\n\tb: 1\n").problems[0].hint == "indent with spaces; tabs are not allowed"
    assert parse("x.yaml", "a: b: c\n").problems[0].hint.startswith("quote a text that contains ': '")


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    file = parse("x.yaml", text)
    assert file.value is None or not isinstance(file.value, dict) or all(isinstance(key, str) for key in file.value)


@given(st.text(alphabet="ab:-[]{},&*!|>'\"#?%@` \n\t0", max_size=60))
def test_no_yaml_like_text_makes_the_reader_fail(text: str) -> None:
    parse("x.yaml", text)
