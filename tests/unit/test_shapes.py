"""A trial without values says what they look like, and nothing of what they are."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_agent import shapes
from crossdock_agent.guessing import Guess
from crossdock_agent.guessing.files import FileGuess
from crossdock_agent.guessing.values import ColumnGuess
from crossdock_agent.trial import Rejected, Trial

CANARY = "Q7canary"


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("SHP-0815", "AAA-9999"), ("12.03.2026", "99.99.9999"), ("Müller & Co", "Aaaaaa & Aa"), ("", ""),
        (4711, "9999"),
        (-1.5, "-9.9"), (None, None), (True, "true or false"), (b"abc", "(3 bytes)"), ({"NO": "x"}, {"NO": "a"}),
        (["x", 1], ["a", "9"]), ("\x1b[2J", "?[9A"), ("x" * 100, "a" * 80 + "..."), ("１２", "99"), ("數", "a"),
    ],
)  # fmt: skip
def test_a_value_is_shown_by_its_shape(value: Any, shape: Any) -> None:
    assert shapes.shape(value) == shape


@given(st.text(min_size=1))
def test_no_letter_and_no_digit_of_a_text_stays(text: str) -> None:
    shown = shapes.shape(text)
    assert set(shown) <= set("aA9?.") | set(string.punctuation) | {" "}


@pytest.mark.parametrize(
    ("name", "shown"), [("ORDER_NO", "ORDER_NO"), ("(3)", "(3)"), ("4711", "9999"), ("17.5;x", "99.9;a")]
)
def test_a_name_that_looks_like_none_is_shown_by_its_shape(name: str, shown: str) -> None:
    assert shapes.name_or_shape(name) == shown


def test_nothing_that_was_read_is_in_a_trial_of_shapes() -> None:
    guess = FileGuess(
        [Guess("format.delimiter", ";", f"as in {CANARY}")], [ColumnGuess("NO", "text", f"such as {CANARY}")],
        [(CANARY, CANARY, "cp850")],
    )  # fmt: skip
    trial = Trial(
        source="wms", kind="file_drop", format="csv", origins=["SHP1.csv"], names=["NO"], types=[], rows=[[CANARY]],
        records=1, bytes=8, more=False, rejects=[Rejected(3, "bad_quote", f"near {CANARY}", CANARY)],
        checkpoint={"after": CANARY}, counters={"files_waiting": 1}, notes=[], file=guess,
    )  # fmt: skip
    shown = shapes.of_trial(trial)
    text = msgspec.json.encode(shown).decode()
    assert CANARY not in text
    assert "canary" not in text
    assert shown.rows == [["A9aaaaaa"]]
    assert (shown.rejects[0].record, shown.rejects[0].code) == (3, "bad_quote")
    assert (shown.names, shown.origins, shown.counters) == (["NO"], ["SHP1.csv"], {"files_waiting": 1})
