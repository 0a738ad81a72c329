"""What receivers want of an HTTP sink: tokens, signatures, bodies of their own, many documents a request."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crossdock.errors import CrossdockError, Rejected, SinkUnavailable
from crossdock_controller.sinks.base import Outgoing, Sink, SinkContext, kinds
from crossdock_controller.sinks.http_body import BodyMaker
from crossdock_controller.sinks.http_settings import HttpSettings
from support.http_batches import BatchReceiver, TokenServer
from support.http_sink import Fault, HttpReceiver
from support.sink_rigs import build, thing

SECRETS = {"secret:shop": "s3cr3t:/+ value", "secret:key": "k-123&456"}


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as running:
        yield running


@pytest.fixture
def batches() -> Iterator[BatchReceiver]:
    with BatchReceiver() as running:
        yield running


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(SECRETS["secret:shop"]) as running:
        yield running


def sink_for(receiver: HttpReceiver, base: Path, **settings: Any) -> Sink:
    made = kinds()["http"]
    context = SinkContext("shop", lambda text: SECRETS.get(text, text), str(base))
    typed = made.settings.model_validate({"url": receiver.url, "timeout_seconds": 5, **settings})
    return made.create(typed, context)


def oauth(tokens: TokenServer, **more: Any) -> dict[str, Any]:
    return {"oauth": {"token_url": tokens.url, "client_id": "crossdock", "client_secret": "secret:shop", **more}}


def outcomes(sink: Sink, *run: Outgoing) -> list[str]:
    return [v.outcome for v in sink.write(run)]


# --- who we are


@pytest.mark.parametrize("send", ["header", "body"])
def test_one_token_serves_many_requests(receiver: HttpReceiver, tokens: TokenServer, tmp_path: Path, send: str) -> None:
    sink = sink_for(receiver, tmp_path, **oauth(tokens, send=send, scope="orders"))
    assert outcomes(sink, thing(1, "A"), thing(2, "B")) == ["done", "done"]
    sink.close()
    assert [r.headers["authorization"] for r in receiver.requests] == ["Bearer token-1"] * 2
    assert b"scope=orders" in tokens.requests[0].body
    assert SECRETS["secret:shop"].encode() not in b"".join(r.body for r in receiver.requests)


def test_a_refused_token_is_replaced_once(receiver: HttpReceiver, tokens: TokenServer, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path, **oauth(tokens))
    receiver.script(Fault(401))
    assert outcomes(sink, thing(1, "A")) == ["done"]
    assert [r.headers["authorization"] for r in receiver.requests] == ["Bearer token-1", "Bearer token-2"]
    receiver.script(Fault(401, body=b"token-3 is not welcome"), Fault(401, body=b"token-3 is not welcome"))
    (verdict,) = sink.write([thing(2, "B")])
    sink.close()
    assert (verdict.outcome, verdict.code) == ("retry", "http_401")
    assert "token-3" not in verdict.reason
    assert tokens.given == 3


def test_a_token_is_fetched_anew_before_its_end(receiver: HttpReceiver, tmp_path: Path) -> None:
    with TokenServer(SECRETS["secret:shop"], life="1") as tokens:
        sink = sink_for(receiver, tmp_path, **oauth(tokens))
        clock = [100.0]
        sink._tokens._clock = lambda: clock[0]  # type: ignore[attr-defined]
        for seconds in (0.0, 0.4, 0.6):
            clock[0] = 100.0 + seconds
            assert outcomes(sink, thing(int(seconds * 10) + 1, "A")) == ["done"]
        sink.close()
    assert [r.headers["authorization"][-1] for r in receiver.requests] == ["1", "1", "2"]


@pytest.mark.parametrize(
    "answer",
    [
        Fault(400, body=b'{"error": "invalid_scope"}'), Fault(503), Fault(200, body=b"no json"), Fault(200, body=b"[]"),
        Fault(200, body=b'{"access_token": 7}'), Fault(200, body=b'{"access_token": "a\\nb"}'), Fault(mode="close"),
        Fault(200, body=b'{"access_token": "' + b"x" * 20_000 + b'"}'), Fault(mode="half_body"), Fault(302),
    ],
)  # fmt: skip
def test_without_a_token_nothing_is_sent_and_no_document_is_at_fault(
    receiver: HttpReceiver, tokens: TokenServer, tmp_path: Path, answer: Fault
) -> None:
    tokens.script(answer, answer)
    sink = sink_for(receiver, tmp_path, **oauth(tokens))
    with pytest.raises(SinkUnavailable, match="no token"):
        sink.write([thing(1, "A"), thing(2, "B")])
    assert receiver.requests == []
    tokens._next.clear()
    assert outcomes(sink, thing(1, "A")) == ["done"]
    sink.close()


def test_a_wrong_secret_is_told_without_showing_it(receiver: HttpReceiver, tmp_path: Path) -> None:
    with TokenServer("another") as tokens:
        sink = sink_for(receiver, tmp_path, **oauth(tokens))
        with pytest.raises(CrossdockError) as caught:
            sink.check()
        sink.close()
    assert "401" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_the_signature_is_over_time_and_body(receiver: HttpReceiver, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path, sign={"secret": "secret:key", "prefix": "v1="})
    assert outcomes(sink, thing(1, "A")) == ["done"]
    sink.close()
    (request,) = receiver.requests
    over = request.headers["x-timestamp"].encode() + b"." + request.body
    expected = hmac.new(SECRETS["secret:key"].encode(), over, hashlib.sha256).hexdigest()
    assert request.headers["x-signature"] == f"v1={expected}"


def test_a_key_in_the_url_is_escaped_and_never_shown(receiver: HttpReceiver, tmp_path: Path) -> None:
    sink = sink_for(receiver, tmp_path, query={"api_key": "secret:key", "v": "2"})
    receiver.script(Fault(400, body=b"bad key k-123%26456 or k-123&456"))
    (verdict,) = sink.write([thing(1, "A")])
    sink.close()
    assert receiver.requests[0].path == "/documents?api_key=k-123%26456&v=2"
    assert "456" not in verdict.reason


# --- bodies of their own

ORDER = json.dumps(
    {"number": "4711", "total": {"amount": "12.50", "currency": "EUR"}, "open": True,
     "lines": [{"sku": "A", "quantity": {"value": "2.000"}}, {"sku": "B"}]}
).encode()  # fmt: skip
TABLE: Mapping[str, Any] = {
    "orderNo": "number",
    "total": {"from": "total.amount", "as": "number"},
    "channel": {"value": "web"},
    "note": {"from": "note", "default": "-"},
    "who": {"fields": {"customer": "customer.id", "paid": {"from": "open", "as": "text"}}},
    "positions": {"each": "lines", "fields": {"article": "sku", "pieces": {"from": "quantity.value", "as": "integer"}}},
}


def maker(table: Mapping[str, Any]) -> BodyMaker:
    body = HttpSettings.model_validate({"url": "http://x/", "body": table}).body
    assert body is not None
    return BodyMaker(body)


def test_a_body_is_what_the_table_says() -> None:
    assert maker(TABLE)(ORDER) == (
        b'{"orderNo":"4711","total":12.50,"channel":"web","note":"-","who":{"paid":"true"},'
        b'"positions":[{"article":"A","pieces":2},{"article":"B"}]}'
    )


def test_what_does_not_fit_is_the_documents_fault(receiver: HttpReceiver, tmp_path: Path) -> None:
    table = {"n": {"from": "quantity.value", "as": "integer"}, "text": "text"}
    sink = sink_for(receiver, tmp_path, body=table)
    verdicts = sink.write([thing(1, "A", "good", quantity="2"), thing(2, "B", quantity="2.5"), thing(3, "C")])
    sink.close()
    assert [v.outcome for v in verdicts] == ["done", "rejected", "done"]
    assert "'2.5'" in verdicts[1].reason
    assert [json.loads(r.body)["n"] for r in receiver.requests] == [2, 1]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text()
       | st.floats(allow_nan=False, allow_infinity=False), lambda inner:
       st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["number", "total", "amount", "lines", "sku",
       "quantity", "value", "open"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_document_has_a_body_or_a_reason(value: Any) -> None:
    body = json.dumps(value if isinstance(value, dict) else {"number": value}).encode()
    with contextlib.suppress(Rejected):
        json.loads(maker(TABLE)(body))


@pytest.mark.parametrize(
    "table",
    [
        {"a": {}}, {"a": {"from": "x", "value": 1}}, {"a": {"each": "lines"}}, {"a": {"from": "x", "as": "float"}},
        {"a": {"from": "x", "unheard_of": 1}},
        {"a": {"fields": {"a": {"fields": {"a": {"fields": {"a": {"fields": {"a": {"fields": {"a": {"fields": {
            "a": {"fields": {"a": {"fields": {"a": "x"}}}}}}}}}}}}}}}}},
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_meant_is_refused(table: Any) -> None:
    with pytest.raises(ValidationError):
        HttpSettings.model_validate({"url": "http://x/", "body": table})


# --- many at once

BATCH = {"max": 10, "wrap": "items", "results": "results"}


def test_a_batch_is_one_request_and_each_document_has_its_verdict(batches: BatchReceiver, tmp_path: Path) -> None:
    batches.script_for("T3", Fault(422, body=b"not_negative"))
    batches.script_for("T5", Fault(503, body=b"later"))
    sink = sink_for(batches, tmp_path, batch=BATCH)
    verdicts = sink.write([thing(i, f"T{i}", "x") for i in range(1, 9)])
    assert [v.outcome for v in verdicts] == ["done"] * 2 + ["rejected", "done", "retry"] + ["done"] * 3
    assert "not_negative" in verdicts[2].reason
    assert len(batches.requests) == 1
    assert outcomes(sink, thing(5, "T5", "x")) == ["done"]
    sink.close()
    assert sorted(r.key for r in batches.effects) == ["T1", "T2", "T4", "T5", "T6", "T7", "T8"]


def test_versions_of_a_key_are_never_in_one_batch(batches: BatchReceiver, tmp_path: Path) -> None:
    batches.script_for("A", Fault(422))
    sink = sink_for(batches, tmp_path, batch=BATCH)
    verdicts = sink.write([thing(1, "A", "1"), thing(2, "B", "1"), thing(3, "A", "2"), thing(4, "B", "2")])
    sink.close()
    assert [v.outcome for v in verdicts] == ["rejected", "done", "retry", "done"]
    assert verdicts[2].code == "held"
    assert [[i["key"] for i in json.loads(r.body)["items"]] for r in batches.requests] == [["A", "B"], ["B"]]


def test_a_batch_that_is_refused_as_a_whole_is_halved_down_to_the_culprit(tmp_path: Path) -> None:
    class Strict(BatchReceiver):
        def take(self, received: Any) -> Fault | None:
            if any(item["body"]["text"] == "poison" for item in json.loads(received.body)["items"]):
                return Fault(422, body=b"cannot be parsed")
            return super().take(received)

    with Strict() as strict:
        sink = sink_for(strict, tmp_path, batch=BATCH)
        verdicts = sink.write([thing(i, f"T{i}", "poison" if i == 6 else "good") for i in range(1, 11)])
        sink.close()
    assert [i for i, v in enumerate(verdicts, 1) if v.outcome == "rejected"] == [6]
    assert sum(v.outcome == "done" for v in verdicts) == 9
    assert len(strict.effects) == 9


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results": []}', b'{"results": [{"status": "fine"}, {}]}', b"[[[["])
def test_an_answer_that_does_not_tell_of_each_is_no_verdict(
    batches: BatchReceiver, tmp_path: Path, body: bytes
) -> None:
    sink = sink_for(batches, tmp_path, batch=BATCH)
    batches.script(Fault(200, body=body))
    verdicts = sink.write([thing(1, "A", "1"), thing(2, "B", "1")])
    assert {(v.outcome, v.code) for v in verdicts} == {("retry", "bad_answer")}
    assert outcomes(sink, thing(1, "A", "1"), thing(2, "B", "1")) == ["done", "done"]
    sink.close()


def test_the_same_batch_has_the_same_key(batches: BatchReceiver, tmp_path: Path) -> None:
    sink = sink_for(batches, tmp_path, batch=BATCH)
    run = [thing(1, "A", "1"), thing(2, "B", "1")]
    batches.script(Fault(500))
    sink.write(run)
    sink.write(run)
    sink.write([thing(3, "C", "1")])
    sink.close()
    keys = [r.headers["idempotency-key"] for r in batches.requests]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://x/{key}", "batch": {}}, {"batch": {"max": 0}}, {"batch": {"max": 1001}},
        {"oauth": {"token_url": "ftp://x", "client_id": "a", "client_secret": "secret:x"}},
        {"oauth": {"token_url": "https://x", "client_id": "a", "client_secret": "in plain text"}},
        {"oauth": {"token_url": "https://x", "client_id": "a", "client_secret": "secret:x"},
         "headers": {"authorization": "x"}},
        {"sign": {"secret": "plain"}}, {"sign": {"secret": "secret:x", "header": "a b"}},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpSettings.model_validate({"url": "http://x/", **settings})


@pytest.mark.parametrize("results", [None, "results"])
def test_a_conflict_of_a_batch_is_asked_again_down_to_the_document_that_is_there(
    batches: BatchReceiver, tmp_path: Path, results: str | None
) -> None:
    settings = {
        "url": batches.url, "conflict_is_done": True, "timeout_seconds": 5,
        "batch": {"max": 10, "wrap": "items", "results": results},
    }  # fmt: skip
    batches.script(*[Fault(409)] * 2)  # for all four, and for the first half; its documents are then new to it
    sink = build("http", settings, tmp_path)
    assert [v.outcome for v in sink.write([thing(n, f"K{n}") for n in range(1, 5)])] == ["done"] * 4
    batches.script(Fault(409))
    assert [v.outcome for v in sink.write([thing(5, "K5")])] == ["done"]
    sink.close()
    assert [r.key for r in batches.effects] == ["K1", "K2", "K3", "K4"]
