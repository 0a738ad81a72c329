"""What the HTTP sink makes of every answer, and of every way not to answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from crossdock.errors import ConfigError, SinkUnavailable
from crossdock_controller.sinks import http, http_exchange
from crossdock_controller.sinks.base import Sink, SinkContext, kinds
from crossdock_controller.sinks.http import HttpSettings
from crossdock_controller.sinks.http_verdicts import excerpt, retry_after_seconds
from support.certificates import self_signed
from support.http_sink import Fault, HttpReceiver
from support.sink_rigs import build, thing

NOW = 1_700_000_000.0


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


def sink_for(receiver: HttpReceiver, base: Path, **more: Any) -> Sink:
    return build("http", {"url": receiver.url + "/{key}", "timeout_seconds": 5, **more}, base)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "done"), (201, "done"), (202, "done"), (204, "done"),
        (301, "retry"), (302, "retry"), (304, "retry"), (307, "retry"), (308, "retry"),
        (400, "rejected"), (401, "retry"), (403, "rejected"), (404, "rejected"), (407, "retry"), (408, "retry"),
        (409, "rejected"), (410, "rejected"), (413, "rejected"), (422, "rejected"), (425, "retry"), (429, "retry"),
        (500, "retry"), (501, "retry"), (502, "retry"), (503, "retry"), (504, "retry"), (599, "retry"), (700, "retry"),
    ],
)  # fmt: skip
def test_a_status_has_its_verdict(receiver: HttpReceiver, tmp_path: Path, status: int, outcome: str) -> None:
    receiver.script(Fault(status, {"Location": "/elsewhere"}, b"" if status in (204, 304) else b"because of this"))
    sink = sink_for(receiver, tmp_path)
    (verdict,) = sink.write([thing(1, "T1")])
    assert verdict.outcome == outcome
    if outcome != "done":
        assert verdict.code == f"http_{status}"
        assert str(status) in verdict.reason or "/elsewhere" in verdict.reason
    assert [v.outcome for v in sink.write([thing(2, "T2")])] == ["done"]  # the connection is still in step
    sink.close()
    assert len(receiver.requests) == 2  # no redirect was followed


def test_a_conflict_is_done_where_the_settings_say_so(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script(Fault(409))
    sink = sink_for(receiver, tmp_path, conflict_is_done=True)
    assert [v.outcome for v in sink.write([thing(1, "T1")])] == ["done"]
    sink.close()


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("hang", "timeout"), ("drip", "timeout"), ("close", "closed"), ("half_status", "half_answer"),
        ("half_headers", "half_answer"), ("half_body", "half_answer"), ("half_chunks", "half_answer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("reused", [False, True])
def test_no_complete_answer_is_no_verdict_and_the_resend_has_one_effect(
    receiver: HttpReceiver, tmp_path: Path, mode: Any, code: str, applied: bool, reused: bool
) -> None:
    sink = sink_for(receiver, tmp_path, timeout_seconds=0.3)
    if reused:
        sink.write([thing(9, "T0")])
    tries = 2 if reused and code == "closed" else 1  # a connection that was in use is tried once more
    receiver.script(*[Fault(mode=mode, applied=applied)] * tries)
    began = time.monotonic()
    (verdict,) = sink.write([thing(1, "T1", "text")])
    assert (verdict.outcome, verdict.code) == ("retry", code)
    assert time.monotonic() - began < 3
    assert [v.outcome for v in sink.write([thing(1, "T1", "text", attempt=2)])] == ["done"]
    sink.close()
    assert [r.key for r in receiver.effects].count("T1") == 1
    assert len({r.idempotency_key for r in receiver.requests if r.key == "T1"}) == 1


def test_a_connection_closed_by_the_server_while_idle_costs_no_verdict(receiver: HttpReceiver, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path)
    for n in range(1, 6):
        assert [v.outcome for v in sink.write([thing(n, f"T{n}")])] == ["done"]
        receiver.drop_connections()
    sink.close()
    assert len(receiver.effects) == 5


def test_requests_of_a_run_share_one_connection(receiver: HttpReceiver, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path)
    sink.write([thing(n, f"T{n}") for n in range(1, 51)])
    sink.close()
    assert receiver.connections == 1


def test_every_attempt_carries_the_same_key_the_document_and_its_type(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script(Fault(500), Fault(503))
    sink = build(
        "http", {"url": receiver.url + "/{document}/{key}", "method": "PUT", "headers": {"X-Site": "a"}}, tmp_path
    )
    for attempt in (1, 2, 3):
        sink.write([thing(77, "T/1 ä", "x", attempt=attempt)])
    sink.close()
    assert {(r.method, r.path, r.idempotency_key) for r in receiver.requests} == {
        ("PUT", "/documents/Thing/T%2F1%20%C3%A4", f"{77:032x}-finance")
    }
    first = receiver.requests[0].headers
    assert (first["crossdock-document"], first["crossdock-sequence"], first["x-site"]) == ("Thing", "77", "a")
    assert first["content-type"] == "application/json"
    assert json.loads(receiver.effects[0].body)["text"] == "x"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120.0), (" 0 ", None, 0.0), ("99999999999999999999", None, 86400.0), ("-5", None, None),
        ("1.5", None, None), ("soon", None, None), (None, None, None), ("", None, None), ("٣", None, None),
        (formatdate(NOW + 90, usegmt=True), None, 90.0), (formatdate(NOW - 90, usegmt=True), None, 0.0),
        (formatdate(NOW + 3690, usegmt=True), formatdate(NOW + 3600, usegmt=True), 90.0),  # the server's clock is ahead
        (formatdate(NOW + 90, usegmt=True), "nonsense", 90.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None, 0.0), ("Sun Nov  6 08:49:37 1994", None, 0.0),  # the obsolete forms
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(value: str | None, date: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, date, NOW) == seconds


def test_retry_after_reaches_the_verdict_and_spares_the_rest_of_the_run(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script(Fault(429, {"Retry-After": "17"}, b"slow down"))
    sink = sink_for(receiver, tmp_path)
    verdicts = sink.write([thing(n, f"T{n}") for n in range(1, 6)])
    sink.close()
    assert [(v.outcome, v.after_seconds) for v in verdicts] == [("retry", 17.0)] * 5
    assert [v.code for v in verdicts] == ["http_429"] + ["held"] * 4
    assert len(receiver.requests) == 1


def test_an_error_of_one_document_holds_only_its_own_key(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script_for("T2", Fault(500))
    sink = sink_for(receiver, tmp_path)
    verdicts = sink.write([thing(1, "T1"), thing(2, "T2"), thing(3, "T3"), thing(4, "T2"), thing(5, "T1")])
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "retry", "done", "retry", "done"]
    assert verdicts[3].code == "held"


def test_three_silences_in_a_row_end_the_run(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script(*[Fault(mode="close")] * 10)
    sink = sink_for(receiver, tmp_path)
    verdicts = sink.write([thing(n, f"T{n}") for n in range(1, 11)])
    sink.close()
    assert [v.code for v in verdicts] == ["closed"] * 3 + ["held"] * 7


def test_a_run_that_takes_too_long_is_cut_and_the_rest_is_due_at_once(
    receiver: HttpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "RUN_SECONDS", -1.0)
    sink = sink_for(receiver, tmp_path)
    verdicts = sink.write([thing(1, "T1"), thing(2, "T2")])
    sink.close()
    assert [(v.outcome, v.code, v.after_seconds) for v in verdicts] == [("retry", "held", 0.0)] * 2


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_would_name_another_path_is_rejected(receiver: HttpReceiver, tmp_path: Path, key: str) -> None:
    sink = sink_for(receiver, tmp_path)
    (verdict,) = sink.write([thing(1, key)])
    sink.close()
    assert (verdict.outcome, verdict.code) == ("rejected", "bad_key")
    assert receiver.requests == []


def test_a_long_answer_is_cut_and_its_status_stands(receiver: HttpReceiver, tmp_path: Path) -> None:
    long = b"x" * (http_exchange.MAX_ANSWER_BYTES * 4)
    receiver.script(Fault(200, body=long), Fault(400, body=long))
    sink = sink_for(receiver, tmp_path)
    verdicts = sink.write([thing(1, "T1"), thing(2, "T2"), thing(3, "T3")])
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "rejected", "done"]
    assert len(verdicts[1].reason) < 600


def test_what_is_no_http_is_no_verdict(tmp_path: Path) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        sink = build("http", {"url": f"http://127.0.0.1:{server.getsockname()[1]}/"}, tmp_path)
        (verdict,) = sink.write([thing(1, "T1")])
        sink.close()
        thread.join()
    assert (verdict.outcome, verdict.code) == ("retry", "bad_answer")


def test_a_reason_is_one_clean_line_without_secrets(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.script(
        Fault(403, body=b"no\x1b[31m\r\nentry\x00 for Bearer s3cr3t-token or s3cr3t-token \xff\xe2\x80\xae!")
    )
    kind = kinds()["http"]
    checked = kind.settings.model_validate({"url": receiver.url, "headers": {"Authorization": "secret:erp"}})
    sink = kind.create(checked, SinkContext("erp", lambda _: "Bearer s3cr3t-token", str(tmp_path)))
    (verdict,) = sink.write([thing(1, "T1")])
    sink.close()
    assert receiver.requests[0].headers["authorization"] == "Bearer s3cr3t-token"
    assert verdict.reason == "the sink answered 403: no [31m entry for *** or *** � !"


def test_an_excerpt_is_never_longer_than_its_limit() -> None:
    assert len(excerpt(b"a" * 10_000)) == 500


def test_versions_of_a_key_stay_in_order_over_several_connections(receiver: HttpReceiver, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path, concurrency=8)
    run = [thing(n, f"T{n % 13}") for n in range(1, 201)]
    assert {v.outcome for v in sink.write(run)} == {"done"}
    sink.close()
    by_key: dict[str, list[int]] = {}
    for effect in receiver.effects:
        by_key.setdefault(effect.key, []).append(int(effect.headers["crossdock-sequence"]))
    assert all(order == sorted(order) for order in by_key.values())
    assert sum(map(len, by_key.values())) == 200
    assert 1 < receiver.connections <= 8


def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_from_ca_file_is_trusted(tmp_path: Path) -> None:
    pair = self_signed(tmp_path)
    with HttpReceiver(pair) as receiver:
        doubtful = sink_for(receiver, tmp_path)
        with pytest.raises(SinkUnavailable, match="certificate"):
            doubtful.write([thing(1, "T1")])
        with pytest.raises(SinkUnavailable, match="certificate"):
            doubtful.check()
        doubtful.close()
        assert receiver.requests == []
        trusting = sink_for(receiver, tmp_path, ca_file=pair.certificate.name)
        assert "TLSv1" in trusting.check()
        assert [v.outcome for v in trusting.write([thing(1, "T1")])] == ["done"]
        trusting.close()


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    import ssl

    pair = self_signed(tmp_path)
    with HttpReceiver(pair) as receiver:
        exchange = http_exchange.Exchange(
            "https", "127.0.0.2", receiver.port, 5, ssl.create_default_context(cafile=str(pair.certificate))
        )
        with pytest.raises(SinkUnavailable):
            exchange.connect()
        exchange.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "ftp://host/"}, "http://host/path"), ({"url": "https:///path"}, "http://host/path"),
        ({"url": "https://user:pw@host/"}, "secret:NAME"), ({"url": "https://host/a b"}, "percent-encode"),
        ({"url": "https://host/\r\nX: y"}, "percent-encode"), ({"url": "https://host/#x"}, "percent-encode"),
        ({"url": "https://{key}.host/"}, "path or query"), ({"url": "https://host/{number}"}, "{key} and {document}"),
        ({"url": "https://host:99999/"}, "ort"), ({"method": "GET"}, "POST"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"headers": {"a b": "c"}}, "not a token"), ({"headers": {"Idempotency-Key": "c"}}, "set by the sink"),
        ({"concurrency": 100}, "32"), ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong_are_refused_with_what_to_write_instead(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpSettings.model_validate({"url": "https://host/path", **change})
    assert words in str(caught.value)


def test_a_secret_that_cannot_be_a_header_is_named_but_not_shown(tmp_path: Path) -> None:
    checked = HttpSettings(url="https://host/", headers={"Authorization": "secret:erp"})
    with pytest.raises(ConfigError, match="header Authorization") as caught:
        http.HttpSink(checked, SinkContext("erp", lambda _: "Bearer x\r\nHost: evil", str(tmp_path)))
    assert "evil" not in str(caught.value)


def test_what_is_sent_again_on_purpose_has_a_key_of_its_own_at_every_attempt(
    receiver: HttpReceiver, tmp_path: Path
) -> None:
    receiver.script(Fault(200), Fault(500))
    sink = sink_for(receiver, tmp_path)
    sink.write([thing(1, "T1", "text")])
    for attempt in (2, 3):
        sink.write([msgspec.structs.replace(thing(1, "T1", "text", attempt=attempt), replay=7)])
    sink.close()
    first, *again = receiver.requests
    assert "crossdock-replay" not in first.headers
    assert [r.headers["crossdock-replay"] for r in again] == ["7", "7"]
    assert {r.idempotency_key for r in again} == {first.idempotency_key + "-r7"}
