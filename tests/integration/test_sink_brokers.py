"""What each broker says, and what the sink makes of it: real servers, but for Kafka."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, CrossdockError, SinkUnavailable
from crossdock_controller.sinks.base import Outgoing, Verdict
from support import nats_server as nats_servers
from support.broker_rigs import AmqpRig, KafkaRig, NatsRig
from support.certificates import self_signed
from support.kafka_broker import INVALID_RECORD, TOO_LARGE, KafkaBroker
from support.nats_server import NatsServer, nats_server  # noqa: F401 - fixture
from support.rabbitmq import RabbitMQ, rabbitmq_server  # noqa: F401 - fixture
from support.sink_rigs import build, thing


@pytest.fixture
def nats_rig(tmp_path: Path, nats_server: NatsServer) -> NatsRig:  # noqa: F811
    return NatsRig(tmp_path, nats_server)


@pytest.fixture
def amqp_rig(tmp_path: Path, rabbitmq_server: RabbitMQ) -> AmqpRig:  # noqa: F811
    return AmqpRig(tmp_path, rabbitmq_server)


@pytest.fixture
def kafka_rig(tmp_path: Path) -> Iterator[KafkaRig]:
    with KafkaBroker() as broker:
        yield KafkaRig(tmp_path, broker)


def said(verdicts: Any) -> list[str]:
    return [f"{v.outcome} {v.code}".strip() for v in verdicts]


def write(kind: str, settings: Any, base: Path, *run: Outgoing) -> list[Verdict]:
    sink = build(kind, settings, base)
    try:
        return list(sink.write(run))
    finally:
        sink.close()


# NATS


def test_nats_a_resend_is_not_stored_again_within_the_window(nats_rig: NatsRig) -> None:
    for _ in range(2):
        assert said(write("nats", nats_rig.settings, nats_rig.base, thing(1, "A"))) == ["done"]
    (message,) = nats_rig.server.messages(nats_rig.stream)
    assert message.headers["Nats-Msg-Id"] == (1).to_bytes(16, "big").hex() + "-finance"
    assert message.subject == f"{nats_rig.stream}.Thing.A"
    assert json.loads(message.data)["number"] == "A"


def test_nats_a_subject_that_no_stream_takes_is_tried_again_and_the_others_are_done(nats_rig: NatsRig) -> None:
    own = nats_rig.settings | {"subject": f"{nats_rig.stream}-{{key}}"}
    stream = f"u{uuid.uuid4().hex}"
    nats_rig.server.add_stream(stream, [f"{nats_rig.stream}-B"])
    run = [thing(1, "A"), thing(2, "B"), thing(3, "A")]
    verdicts = write("nats", own | {"stream": stream}, nats_rig.base, *run)
    assert said(verdicts) == ["retry no_stream", "done", "retry held"]
    with pytest.raises(SinkUnavailable, match="no stream takes"):
        write("nats", own | {"stream": stream}, nats_rig.base, thing(1, "A"))


def test_nats_a_subject_of_another_stream_is_tried_again(nats_rig: NatsRig) -> None:
    with pytest.raises(SinkUnavailable, match="expected stream does not match"):
        write("nats", nats_rig.settings | {"stream": "other"}, nats_rig.base, thing(1, "A"))


def test_nats_what_the_stream_finds_too_large_is_rejected_and_nothing_else(nats_rig: NatsRig) -> None:
    stream = f"u{uuid.uuid4().hex}"
    nats_rig.server.add_stream(stream, [f"{stream}.>"], max_msg_size=2_000)
    settings = nats_rig.settings | {"stream": stream, "subject": f"{stream}.{{document}}"}
    run = [thing(1, "A"), thing(2, "B", "x" * 3_000), thing(3, "C"), thing(4, "B")]
    assert said(write("nats", settings, nats_rig.base, *run)) == ["done", "rejected too_large", "done", "retry held"]


def test_nats_a_full_stream_is_tried_again(nats_rig: NatsRig) -> None:
    from nats.js.api import DiscardPolicy

    stream = f"u{uuid.uuid4().hex}"
    nats_rig.server.add_stream(stream, [f"{stream}.>"], max_msgs=1, discard=DiscardPolicy.NEW)
    settings = nats_rig.settings | {"stream": stream, "subject": f"{stream}.{{document}}"}
    assert said(write("nats", settings, nats_rig.base, thing(1, "A"), thing(2, "A"))) == ["done", "retry stream_full"]


def test_nats_check_names_what_is_missing_and_create_makes_it(nats_rig: NatsRig) -> None:
    stream = f"u{uuid.uuid4().hex}"
    settings = nats_rig.settings | {"stream": stream, "subject": f"{stream}.{{site}}.{{key}}"}
    sink = build("nats", settings, nats_rig.base)
    with pytest.raises(ConfigError, match=rf"no stream '{stream}'.*create: true"):
        sink.check()
    sink.close()
    sink = build("nats", settings | {"create": True}, nats_rig.base)
    assert f"stream {stream} found with 0 messages" in sink.check()
    sink.close()
    assert said(write("nats", settings, nats_rig.base, thing(1, "A"))) == ["rejected bad_key"]  # no site


def test_nats_a_document_over_the_limit_is_rejected_before_it_is_sent(nats_rig: NatsRig) -> None:
    settings = nats_rig.settings | {"max_message_bytes": 1_000}
    verdicts = write("nats", settings, nats_rig.base, thing(1, "A", "x" * 2_000), thing(2, "k" * 4_000), thing(3, "C"))
    assert said(verdicts) == ["rejected too_large", "rejected too_large", "done"]
    long_key = write("nats", nats_rig.settings, nats_rig.base, thing(4, "k" * 4_000), thing(5, "D"))
    assert said(long_key) == ["rejected bad_key", "done"]


def test_nats_over_tls_with_a_login_by_reference(tmp_path: Path) -> None:
    pair = self_signed(tmp_path)
    extra = (
        f"tls {{ cert_file: {json.dumps(str(pair.certificate))}, key_file: {json.dumps(str(pair.key))} }}\n"
        'authorization { user: "crossdock", password: "geheim" }'
    )
    with nats_servers.running(extra) as server:
        right = {
            "servers": [f"tls://localhost:{server.port}"], "stream": "S", "subject": "s.{key}", "create": True,
            "tls": True, "ca_file": str(pair.certificate), "user": "crossdock", "password": "secret:bus",
        }  # fmt: skip
        assert said(_with_secret("geheim", right, tmp_path)) == ["done"]
        with pytest.raises(SinkUnavailable) as caught:
            _with_secret("falsch", right, tmp_path)
        assert "falsch" not in str(caught.value)
        with pytest.raises(SinkUnavailable):  # a certificate that nobody trusts
            _with_secret("geheim", {name: value for name, value in right.items() if name != "ca_file"}, tmp_path)


def _with_secret(password: str, settings: dict[str, Any], base: Path) -> list[Verdict]:
    from crossdock_controller.sinks.base import SinkContext, kinds

    kind = kinds()["nats"]
    context = SinkContext("bus", lambda text: password if text == "secret:bus" else text, str(base))
    sink = kind.create(kind.settings.model_validate(settings), context)
    try:
        return list(sink.write([thing(1, "A")]))
    finally:
        sink.close()


# RabbitMQ


def test_amqp_what_no_queue_takes_is_not_done(amqp_rig: AmqpRig) -> None:
    exchange = f"u{uuid.uuid4().hex}"

    async def bind(channel: Any) -> None:
        made = await channel.declare_exchange(exchange, "topic", durable=True)
        queue = await channel.get_queue(amqp_rig.name)
        await queue.bind(made, "known")

    amqp_rig.server.with_channel(bind)
    settings = amqp_rig.settings | {"exchange": exchange, "routing_key": "{key}"}
    verdicts = write("amqp", settings, amqp_rig.base, thing(1, "known"), thing(2, "unknown"), thing(3, "unknown"))
    assert said(verdicts) == ["done", "retry unroutable", "retry held"]
    assert amqp_rig.effects() == [("known", 1)]
    with pytest.raises(SinkUnavailable, match="NO_ROUTE"):
        write("amqp", settings, amqp_rig.base, thing(4, "unknown"))


def test_amqp_a_queue_that_is_full_puts_off(amqp_rig: AmqpRig) -> None:
    name = f"u{uuid.uuid4().hex}"
    amqp_rig.server.declare(name, name, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    settings = amqp_rig.settings | {"exchange": name, "queue": name}
    verdicts = write("amqp", settings, amqp_rig.base, thing(1, "A"), thing(2, "A"), thing(3, "A"))
    assert said(verdicts)[0] == "done"
    assert said(verdicts)[-1].startswith("retry")
    assert "retry refused_for_now" in said(verdicts)
    assert [m.message_id for m in amqp_rig.server.take(name)][:1] == [(1).to_bytes(16, "big").hex() + "-finance"]


def test_amqp_messages_are_persistent_and_say_what_they_are(amqp_rig: AmqpRig) -> None:
    write("amqp", amqp_rig.settings, amqp_rig.base, thing(1, "A b"))
    (message,) = amqp_rig.server.take(amqp_rig.name)
    assert int(message.delivery_mode) == 2
    assert (message.content_type, message.type, message.routing_key) == ("application/json", "Thing", "Thing")
    assert message.headers["Crossdock-Key"] == "A%20b"


def test_amqp_a_message_over_the_brokers_limit_is_found_and_the_others_go(amqp_rig: AmqpRig, tmp_path: Path) -> None:
    """The broker ends the channel over it, which leaves the others of its wave without a verdict."""
    large = thing(2, "B", "x" * 150_000_000)  # RabbitMQ 3.10 takes 128 MiB at most
    settings = amqp_rig.settings | {"max_message_bytes": 200_000_000}
    sink = build("amqp", settings, tmp_path)
    verdicts = sink.write([thing(1, "A"), large])
    assert said(verdicts)[1] == "rejected too_large"
    assert said(sink.write([thing(1, "A"), thing(3, "C")])) == ["done", "done"]
    sink.close()
    assert amqp_rig.effects() == [("A", 1), ("C", 3)]


def test_amqp_check_names_what_is_missing_and_create_makes_it(amqp_rig: AmqpRig) -> None:
    name = f"u{uuid.uuid4().hex}"
    settings = amqp_rig.settings | {"exchange": name, "queue": name}
    sink = build("amqp", settings, amqp_rig.base)
    with pytest.raises(CrossdockError, match=rf"no exchange '{name}'.*create: true"):
        sink.check()
    sink.close()
    sink = build("amqp", settings | {"create": True}, amqp_rig.base)
    assert f"exchange {name}, queue {name} found" in sink.check()
    assert said(sink.write([thing(1, "A")])) == ["done"]
    sink.close()
    assert [json.loads(m.body)["number"] for m in amqp_rig.server.take(name)] == ["A"]


def test_amqp_a_wrong_login_is_no_verdict(amqp_rig: AmqpRig) -> None:
    settings = amqp_rig.settings | {"user": "stranger"}
    with pytest.raises(SinkUnavailable, match="login allowed"):
        write("amqp", settings, amqp_rig.base, thing(1, "A"))


def test_amqp_a_key_too_long_for_a_routing_key_is_rejected(amqp_rig: AmqpRig) -> None:
    settings = amqp_rig.settings | {"routing_key": "{key}"}
    verdicts = write("amqp", settings, amqp_rig.base, thing(1, "k" * 256), thing(2, "B"))
    assert said(verdicts) == ["rejected bad_key", "done"]


# Kafka


def test_kafka_only_the_record_that_the_broker_refuses_is_rejected(kafka_rig: KafkaRig) -> None:
    kafka_rig.broker.refuse = lambda record: INVALID_RECORD if record.key == b"K7" else 0
    run = [thing(i, f"K{i}") for i in range(20)] + [thing(30, "K7"), thing(31, "K8")]
    verdicts = write("kafka", kafka_rig.settings, kafka_rig.base, *run)
    assert [i for i, v in enumerate(verdicts) if v.outcome == "rejected"] == [7]
    assert verdicts[7].code == "invalid_record"
    assert said(verdicts)[20:] == ["retry held", "done"]
    assert sorted(sequence for _, sequence in kafka_rig.effects()) == [i for i in range(20) if i != 7] + [31]


def test_kafka_what_the_broker_finds_too_large_is_rejected(kafka_rig: KafkaRig) -> None:
    kafka_rig.broker.refuse = lambda record: TOO_LARGE if len(record.value) > 5_000 else 0
    run = [thing(1, "A"), thing(2, "B", "x" * 6_000), thing(3, "C")]
    assert said(write("kafka", kafka_rig.settings, kafka_rig.base, *run)) == ["done", "rejected too_large", "done"]


def test_kafka_a_topic_that_is_missing_is_told_of_and_not_made(kafka_rig: KafkaRig) -> None:
    kafka_rig.broker.add_topic("t.Known")
    settings = kafka_rig.settings | {"topic": "t.{document}"}
    known = Outgoing(b"1" * 16, "Known", "A", thing(1, "A").body, 1, 1)
    assert said(write("kafka", settings, kafka_rig.base, known, thing(2, "B"))) == ["done", "retry no_topic"]
    with pytest.raises(SinkUnavailable, match=r"no topic 't\.Thing'.*create"):
        write("kafka", settings, kafka_rig.base, thing(2, "B"))
    assert set(kafka_rig.broker.topics) == {"things", "t.Known"}


def test_kafka_check_names_what_is_missing_and_create_makes_it(kafka_rig: KafkaRig) -> None:
    settings = kafka_rig.settings | {"topic": "fresh"}
    sink = build("kafka", settings, kafka_rig.base)
    with pytest.raises(ConfigError, match=r"no topic 'fresh'.*create: true"):
        sink.check()
    sink.close()
    made = write("kafka", settings | {"create": True, "partitions": 2}, kafka_rig.base, thing(1, "A"))
    assert said(made) == ["done"]
    assert len(kafka_rig.broker.topics["fresh"]) == 2


def test_kafka_a_broker_that_takes_and_says_nothing_gives_no_verdict_and_nothing_is_lost(kafka_rig: KafkaRig) -> None:
    sink = build("kafka", kafka_rig.settings | {"timeout_seconds": 1.0}, kafka_rig.base)
    assert said(sink.write([thing(1, "A")])) == ["done"]
    kafka_rig.broker.mute = True
    with pytest.raises(SinkUnavailable, match="no confirmation"):
        sink.write([thing(2, "A"), thing(3, "A")])
    kafka_rig.broker.mute = False
    assert said(sink.write([thing(2, "A"), thing(3, "A")])) == ["done", "done"]
    sink.close()
    assert kafka_rig.effects() == [("A", 1), ("A", 2), ("A", 3)]
