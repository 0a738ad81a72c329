"""The last log lines are kept, few and clean."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from loguru import logger

from crossdock import telemetry
from crossdock.redaction import MASK, Redactor
from crossdock_agent.logring import LINE_CHARACTERS, Line, LogRing


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def ring(redactor: Redactor) -> Iterator[LogRing]:
    telemetry.configure("agent")
    ring = LogRing(redactor, lines=50)
    ring.attach()
    yield ring
    ring.detach()


def test_the_ring_keeps_the_newest_lines_and_no_more(ring: LogRing) -> None:
    for number in range(120):
        logger.bind(source="wms").info("line {}", number)
    kept = ring.last(1000)
    assert len(kept) == 50
    assert kept[0].endswith("line 70 source=wms")
    assert kept[-1].endswith("line 119 source=wms")
    assert ring.last(2) == kept[-2:]
    assert ring.last(0) == []


def test_a_long_line_is_cut_and_a_traceback_is_lines(ring: LogRing) -> None:
    logger.info("x" * 5000)
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logger.exception("a source failed")
    assert max(map(len, ring.last(100))) == LINE_CHARACTERS
    assert any("ValueError: what went wrong" in line for line in ring.last(100))


def test_lines_are_found_by_their_time(ring: LogRing) -> None:
    logger.info("before")
    time.sleep(0.002)
    since = time.time_ns() // 1000
    logger.warning("after")
    assert [(line.level, line.text.split()[2]) for line in ring.since(since)] == [("WARNING", "after")]


def test_a_listener_gets_each_line_until_it_is_taken_away(ring: LogRing) -> None:
    heard: list[Line] = []
    ring.listen(heard.append)
    logger.info("one")
    ring.listen(None)
    logger.info("two")
    assert [line.text.split()[2] for line in heard] == ["one"]


def test_a_detached_ring_hears_nothing(ring: LogRing) -> None:
    ring.detach()
    logger.info("unheard")
    assert ring.last(10) == []


def test_a_secret_that_was_looked_up_is_in_no_line(ring: LogRing, redactor: Redactor) -> None:
    resolve = redactor.learning(lambda value: "hunter2-canary" if value == "secret:wms" else value)
    assert resolve("secret:wms") == "hunter2-canary"
    assert resolve("plain word") == "plain word"
    logger.error("login failed for ({}) plain word", "hunter2-canary")
    assert "hunter2" not in ring.last(1)[0]
    assert MASK in ring.last(1)[0]
    assert "plain word" in ring.last(1)[0]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("DRIVER={x};SERVER=erp;UID=sa;PWD={Pa;ss}w;Encrypt=no", "Pa;ss"),
        ("DRIVER={x};UID=sa;Pwd=geheim99;", "geheim99"),
        ('{"password": "s3cr3t value", "user": "x"}', "s3cr3t value"),
        ("join with cd1_eyJhIjoiMTI3LjAuMC4xOjEiLCJjIjoiIn0", "eyJhIjoi"),
        ("Authorization: Bearer abcdef.ghijkl-mnop", "abcdef.ghijkl"),
        ("https://scott:tiger12@erp.example/x", "tiger12"),
        ("-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\nend", "MIGHAgEA"),
        ("-----BEGIN EC PRIVATE KEY-----\nMIGHAgEA cut off", "MIGHAgEA"),
    ],
)
def test_what_has_the_form_of_a_secret_is_taken_out(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in Redactor().clean(text)


def test_text_without_secrets_stays_as_it_is() -> None:
    text = "configuration applied revision=12 source=wms file=/srv/in/SHP1.csv 0 errors"
    assert Redactor().clean(text) == text


def test_a_secret_of_many_lines_is_taken_out_line_by_line_too() -> None:
    redactor = Redactor()
    redactor.learn("first line\nsecond line")
    assert redactor.clean("x second line y") == f"x {MASK} y"
