"""What the sinks for brokers share: waves in which no key stands twice, names, settings, a loop that ends in time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crossdock.errors import ConfigError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import DONE, Outgoing, Verdict, kinds
from crossdock_controller.sinks.broker import BrokerSink, Name, headers, waves
from crossdock_controller.sinks.broker_loop import LoopThread
from support.sink_rigs import build, thing


class FakeClient:
    """A broker that confirms, except what *answers* says of a sequence; it keeps what it took, in order."""

    def __init__(self, answers: dict[int, Verdict] | None = None, *, lost_after: int | None = None) -> None:
        self.answers, self.lost_after = answers or {}, lost_after
        self.usable, self.closed = True, False
        self.taken: list[tuple[str, int]] = []
        self.waves: list[int] = []

    def publish(self, wave: Sequence[Outgoing]) -> Sequence[Verdict]:
        assert len({d.key for d in wave}) == len(wave)
        if self.lost_after is not None and len(self.waves) >= self.lost_after:
            raise SinkUnavailable("the line is dead")
        self.waves.append(len(wave))
        verdicts = [self.answers.get(d.sequence, DONE) for d in wave]
        self.taken += [(d.key, d.sequence) for d, v in zip(wave, verdicts, strict=True) if v.outcome == "done"]
        return verdicts

    def check(self) -> str:
        return "there"

    def close(self) -> None:
        self.closed = True


def said(verdicts: Sequence[Verdict]) -> list[str]:
    return [v.code or v.outcome for v in verdicts]


@given(st.lists(st.sampled_from("abcde"), max_size=40))
def test_waves_hold_every_position_once_and_a_key_once_each_in_its_order(keys: list[str]) -> None:
    run = [thing(i, key) for i, key in enumerate(keys)]
    found = waves(run)
    assert sorted(p for wave in found for p in wave) == list(range(len(keys)))
    assert all(len({keys[p] for p in wave}) == len(wave) for wave in found)
    for key in set(keys):
        assert [p for wave in found for p in wave if keys[p] == key] == [p for p, k in enumerate(keys) if k == key]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.sets(st.integers(0, 29)), st.none() | st.integers(1, 4))
def test_nothing_of_a_key_is_sent_behind_a_version_that_is_not_done(
    keys: list[str], bad: set[int], lost_after: int | None
) -> None:
    run = [thing(i, key) for i, key in enumerate(keys)]
    client = FakeClient({i: Verdict("rejected", "too_large") for i in bad}, lost_after=lost_after)
    verdicts = BrokerSink(lambda: client).write(run)
    done = [(d.key, d.sequence) for d, v in zip(run, verdicts, strict=True) if v.outcome == "done"]
    assert sorted(client.taken) == sorted(done)
    for key in set(keys):
        outcomes = [v.outcome for d, v in zip(run, verdicts, strict=True) if d.key == key]
        assert outcomes == sorted(outcomes, key=["done", "rejected", "retry"].index)
        assert outcomes.count("rejected") <= 1


def test_a_connection_lost_between_waves_leaves_the_confirmed_ones_done_and_the_rest_to_be_sent_again() -> None:
    client = FakeClient(lost_after=1)
    verdicts = BrokerSink(lambda: client).write([thing(1, "a"), thing(2, "b"), thing(3, "a"), thing(4, "b")])
    assert said(verdicts) == ["done", "done", "no_confirm", "no_confirm"]
    assert client.closed


def test_a_run_of_which_nothing_was_done_or_refused_is_no_verdict() -> None:
    client = FakeClient({1: Verdict("retry", "no_stream", "nobody listens")})
    with pytest.raises(SinkUnavailable, match="nobody listens"):
        BrokerSink(lambda: client).write([thing(1, "a"), thing(2, "a")])


def test_a_client_that_is_spent_is_replaced() -> None:
    made: list[FakeClient] = []

    def connect() -> FakeClient:
        made.append(FakeClient())
        return made[-1]

    sink = BrokerSink(connect)
    sink.write([thing(1, "a")])
    made[0].usable = False
    sink.write([thing(2, "a")])
    assert [client.taken for client in made] == [[("a", 1)], [("a", 2)]]
    assert made[0].closed


def test_a_run_that_takes_too_long_is_cut_between_waves() -> None:
    ticks = iter([0.0, 21.0])
    client = FakeClient()
    verdicts = BrokerSink(lambda: client, clock=lambda: next(ticks)).write([thing(1, "a"), thing(2, "a")])
    assert said(verdicts) == ["done", "held"]
    assert verdicts[1].after_seconds == 0.0


@pytest.mark.parametrize(
    ("template", "key", "name"),
    [
        ("x.{document}.{key}", "a.b c", "x.Thing.a%2Eb%20c"),
        ("{key}", "*", "%2A"),
        ("{key}", ">", "%3E"),
        ("{key}", "#", "%23"),
        ("{key}", "{document}", "%7Bdocument%7D"),
        ("{key}", "\r\nPUB x", "%0D%0APUB%20x"),
        ("{document}", "anything", "Thing"),
    ],
)
def test_a_value_is_one_word_of_a_name(template: str, key: str, name: str) -> None:
    assert Name(template, limit=100).of(thing(1, key)) == name


@pytest.mark.parametrize("key", ["", "x" * 101])
def test_a_key_that_makes_no_name_is_refused(key: str) -> None:
    with pytest.raises(Rejected) as caught:
        Name("{key}", limit=100).of(thing(1, key))
    assert caught.value.code == "bad_key"


def test_headers_are_plain_ascii_whatever_the_key_is() -> None:
    found = headers(thing(7, "ключ\r\nX: y"))
    assert all(text.isascii() and text.isprintable() for text in found.values())
    assert found["Crossdock-Event"] == (7).to_bytes(16, "big").hex()
    with pytest.raises(Rejected):
        headers(thing(1, "ä" * 3_000))


NATS = {"servers": ["nats://h:4222"], "stream": "S"}
AMQP = {"url": "amqp://h/v", "exchange": "e"}
KAFKA = {"servers": ["h:9092"]}
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("nats", NATS, {"servers": ["nats://u:p@h:4222"]}, "holds a login"),
    ("nats", NATS, {"servers": ["http://h"]}, "must be like"),
    ("nats", NATS, {"servers": []}, "at least 1"),
    ("nats", NATS, {"subject": "a.*"}, "plain words"),
    ("nats", NATS, {"subject": "a.{customer}"}, "may hold {document}, {key}, {site}"),
    ("nats", NATS, {"stream": "a.b"}, "pattern"),
    ("nats", NATS, {"token": "plain"}, "must be a reference"),
    ("nats", NATS, {"password": "plain"}, "must be a reference"),
    ("nats", NATS, {"ca_file": "x.pem"}, "tls: true"),
    ("nats", NATS, {"tls": True, "key_file": "x.pem"}, "go together"),
    ("amqp", AMQP, {"url": "amqp://u:p@h/v"}, "holds a login"),
    ("amqp", AMQP, {"url": "amqps://h/v"}, "tls: true"),
    ("amqp", AMQP, {"routing_key": "#"}, "plain words"),
    ("amqp", AMQP, {"routing": "x"}, "Extra inputs"),
    ("kafka", KAFKA, {"servers": ["kafka://h:9092"]}, "must be like host:9092"),
    ("kafka", KAFKA, {"topic": "t.{key}"}, "may hold {document}, {site}"),
    ("kafka", KAFKA, {"mechanism": "GSSAPI"}, "PLAIN"),
]


@pytest.mark.parametrize(("kind", "right", "wrong", "text"), WRONG, ids=[f"{k}-{w}" for k, _, w, _ in WRONG])
def test_a_wrong_setting_is_told(kind: str, right: dict[str, Any], wrong: dict[str, Any], text: str) -> None:
    kinds()[kind].settings.model_validate(right)
    with pytest.raises(ValidationError, match=text.replace("{", r"\{").replace("(", r"\(")):
        kinds()[kind].settings.model_validate({**right, **wrong})


@pytest.mark.parametrize(
    ("kind", "settings", "module"),
    [("nats", NATS, "nats"), ("amqp", AMQP, "aio_pika"), ("kafka", KAFKA, "confluent_kafka")],
)
def test_a_client_that_is_not_installed_is_named_with_what_to_install(
    kind: str, settings: dict[str, Any], module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    sink = build(kind, settings, tmp_path)
    with pytest.raises(ConfigError, match=rf"crossdock\[{kind}\]"):
        sink.check()
    with pytest.raises(ConfigError, match=rf"crossdock\[{kind}\]"):
        sink.write([thing(1, "a")])
    sink.close()


@pytest.mark.parametrize(("kind", "settings"), [("nats", NATS), ("amqp", AMQP), ("kafka", KAFKA)])
def test_a_certificate_file_that_is_none_is_a_fault_of_the_configuration(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    sink = build(kind, {**settings, "tls": True, "ca_file": "ca.pem"}, tmp_path)
    with pytest.raises(ConfigError, match="certificate"):
        sink.check()
    sink.close()


def test_a_call_that_hangs_ends_in_time_and_the_loop_goes_on() -> None:
    loop = LoopThread("test")

    async def hang() -> None:
        await asyncio.Event().wait()

    async def answer() -> int:
        return 5

    with pytest.raises(TimeoutError):
        loop.call(hang, 0.05)
    assert loop.call(answer, 30) == 5
    loop.close()


def test_closing_ends_the_thread_and_whatever_still_ran_on_it() -> None:
    loop, ended = LoopThread("test-closing"), threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks = set()

    async def start() -> None:
        tasks.add(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    loop.call(start, 30)
    loop.close()
    loop.close()
    assert ended.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "test-closing"]
    loop.call(start, 30)  # after closing, a call starts anew
    loop.close()


def test_a_loop_that_never_closes_is_given_up_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossdock_controller.sinks.broker_loop._CLOSE_SECONDS", 0.05)
    monkeypatch.setattr("crossdock_controller.sinks.broker_loop._GRACE_SECONDS", 0.05)
    loop, release = LoopThread("test-hanging"), threading.Event()

    async def block() -> None:
        release.wait(60)

    with pytest.raises(TimeoutError):
        loop.call(block, 0.05)
    started = time.monotonic()
    loop.close()
    assert time.monotonic() - started < 30
    release.set()
    for thread in threading.enumerate():
        if thread.name == "test-hanging":
            thread.join(30)
