"""What every sink owes, whatever it writes to: at least once, one effect, order per key, honest verdicts.

A new kind of sink adds a rig to `support.sink_rigs` and a line to the fixture below.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from crossdock.errors import CrossdockError, SinkUnavailable
from crossdock_controller.sinks.base import Outgoing, Sink, Verdict
from support.broker_rigs import AmqpRig, KafkaRig, NatsRig
from support.http_batches import BatchReceiver
from support.http_sink import HttpReceiver
from support.kafka_broker import KafkaBroker
from support.mariadb import mariadb, mariadb_server  # noqa: F401 - fixtures
from support.postgres import postgres, postgres_server  # noqa: F401 - fixtures
from support.sink_rigs import (
    BatchRig,
    FileRig,
    HttpRig,
    MariadbRig,
    OdbcPostgresRig,
    PostgresRig,
    Rig,
    SftpRig,
    SqliteRig,
    refused,
    thing,
)
from support.site_rig import SiteRig

WRITER = Path(__file__).parent.parent / "support" / "sink_writer.py"

HOSTILE = {
    "quotes": 'O\'Brien "the" `owner` \\',
    "injection": "x'); DROP TABLE thing; --",
    "placeholders": "%s %(a)s ? :1 $1 {key} {0} %%",
    "emoji": "📦🚚 \U0001f469\u200d\U0001f680",
    "line ends": "a\r\nb\nc\u2028d\x0be",
    "control": "\x01\x1b[31m\x7f",
    "direction": "\u202egnp.exe",
    "huge": "ä" * 1_000_000,
    "spaces": "  padded\t",
    "empty": "",
}


JUDGING = [
    "sqlite",
    "postgres",
    "odbc_postgres",
    "mariadb",
    "http",
    "http_concurrent",
    "agent",
    "http_batch",
]  # destinations that can refuse one document of a run


def _rig(name: str, request: pytest.FixtureRequest, base: Path) -> Iterator[Rig]:
    match name:
        case "sqlite":
            yield SqliteRig(base)
        case "postgres":
            yield PostgresRig(base, request.getfixturevalue("postgres"))
        case "odbc_postgres":
            yield OdbcPostgresRig(base, request.getfixturevalue("postgres"))
        case "mariadb":
            yield MariadbRig(base, request.getfixturevalue("mariadb"))
        case "file":
            yield FileRig(base)
        case "agent":
            with SiteRig(base) as site:
                yield site
        case "sftp":
            yield SftpRig(base, request.getfixturevalue("ssh_server"))
        case "nats":
            yield NatsRig(base, request.getfixturevalue("nats_server"))
        case "amqp":
            yield AmqpRig(base, request.getfixturevalue("rabbitmq_server"))
        case "kafka":
            with KafkaBroker() as broker:
                yield KafkaRig(base, broker)
        case "http_batch":
            batch = BatchRig(base, BatchReceiver())
            batch.receiver.__enter__()
            yield batch
            batch.receiver.__exit__()
        case _:
            made = HttpRig(base, HttpReceiver(), concurrency=4 if name == "http_concurrent" else 1)
            made.receiver.__enter__()
            yield made
            made.receiver.__exit__()


@pytest.fixture(params=[*JUDGING, "file", "sftp", "nats", "amqp", "kafka"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    yield from _rig(request.param, request, tmp_path)


@pytest.fixture(params=JUDGING)
def judging_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    yield from _rig(request.param, request, tmp_path)


def outcomes(verdicts: list[Verdict] | tuple[Verdict, ...]) -> list[str]:
    return [v.outcome for v in verdicts]


def deliver(sink: Sink, run: list[Outgoing]) -> None:
    assert set(outcomes(sink.write(run))) == {"done"}


def versions(keys: int, each: int) -> list[Outgoing]:
    """*each* versions of *keys* documents, mixed, with lines that differ between versions."""
    numbers = [(f"T{k}", v) for v in range(each) for k in range(keys)]
    return [
        thing(i, key, f"version {version}", lines=[f"{key}-{version}-{n}" for n in range(version % 3)])
        for i, (key, version) in enumerate(numbers, start=1)
    ]


def assert_each_once(rig: Rig, sent: list[Outgoing]) -> None:
    """The destination shows the last version of each document; where it keeps all, each once and in order."""
    last = {d.key: d for d in sent}
    bodies = {key: json.loads(d.body) for key, d in last.items()}
    assert rig.state() == {key: (b["text"], [line["sku"] for line in b["lines"]]) for key, b in bodies.items()}
    effects = rig.effects()
    if effects is not None:
        assert sorted(sequence for _, sequence in effects) == sorted({d.sequence for d in sent})
        by_key: dict[str, list[int]] = {}
        for key, sequence in effects:
            by_key.setdefault(key, []).append(sequence)
        assert all(a < b for order in by_key.values() for a, b in pairwise(order))


def test_every_version_arrives_and_the_last_one_stays(rig: Rig) -> None:
    sink, run = rig.make(), versions(20, 5)
    deliver(sink, run)
    sink.close()
    assert_each_once(rig, run)


def test_an_empty_run_has_no_verdicts(rig: Rig) -> None:
    sink = rig.make()
    assert list(sink.write([])) == []
    sink.close()


def test_a_run_sent_again_has_no_second_effect(rig: Rig) -> None:
    sink, run = rig.make(), versions(10, 3)
    deliver(sink, run)
    deliver(sink, run)
    sink.close()
    assert_each_once(rig, run)


def test_a_resend_in_other_portions_to_a_new_instance_has_no_second_effect(rig: Rig) -> None:
    run = versions(10, 4)
    first = rig.make()
    deliver(first, run[:25])
    first.close()
    second = rig.make()
    for start in range(0, len(run), 7):
        deliver(second, run[start : start + 7])
    second.close()
    assert_each_once(rig, run)


def test_what_a_replay_sends_again_has_one_more_effect(rig: Rig) -> None:
    run = versions(5, 1)
    again = [msgspec.structs.replace(delivery, replay=3) for delivery in run]
    first = rig.make()
    deliver(first, run)
    first.close()
    second = rig.make()
    deliver(second, again)
    deliver(second, again)  # the attempts of one replay are one
    second.close()
    effects = rig.effects()
    if effects is not None:
        assert sorted(effects) == sorted([(d.key, d.sequence) for d in run] * 2)
    assert set(rig.state()) == {d.key for d in run}


def test_hostile_text_arrives_unchanged(rig: Rig) -> None:
    sink = rig.make()
    run = [thing(i, f"T{i}", text, lines=[text]) for i, text in enumerate(HOSTILE.values(), start=1)]
    deliver(sink, run)
    sink.close()
    assert rig.state() == {f"T{i}": (text, [text]) for i, text in enumerate(HOSTILE.values(), start=1)}


def test_hostile_keys_stay_different_documents(rig: Rig) -> None:
    sink = rig.make()
    keys = ["a/b", "a%2Fb", "A/B", "a b", "a?b=c", "a#b", "../../x", "x'; --", "ключ", "{key}", "{document}", "%s"]
    run = [thing(i, key, key) for i, key in enumerate(keys, start=1)]
    deliver(sink, run)
    sink.close()
    found = {text for text, _ in rig.state().values()}
    assert found == set(keys)
    assert len(rig.state()) == len(keys) or rig.kind == "http"  # "a/b" and "x/b" share a path's last part


def test_an_unreachable_destination_gives_no_verdict_and_is_found_again(rig: Rig) -> None:
    sink, run = rig.make(), versions(5, 3)
    deliver(sink, run[:5])
    with rig.broken():
        for _ in range(2):
            with pytest.raises(SinkUnavailable) as caught:
                sink.write(run[5:])
            assert str(caught.value)
    deliver(sink, run[5:])
    sink.close()
    assert_each_once(rig, run)


def test_check_tells_a_reachable_destination_from_a_broken_one(rig: Rig) -> None:
    sink = rig.make()
    assert "\n" not in sink.check()
    sink.close()
    with rig.broken(), pytest.raises(CrossdockError):
        sink.check()
    deliver(sink, [thing(1, "T1")])
    sink.close()


def test_only_the_refused_document_is_rejected_and_only_its_own_later_versions_are_held(judging_rig: Rig) -> None:
    sink = judging_rig.make()
    bad = refused(4, "B")
    run = [thing(1, "A", "a1"), thing(2, "B", "b1"), thing(3, "C", "c1"), bad, thing(5, "A", "a2"), thing(6, "B", "b3")]
    deliver(sink, run[:3])
    judging_rig.refuse(bad)
    verdicts = sink.write(run[3:])
    sink.close()
    assert outcomes(verdicts) == ["rejected", "done", "retry"]
    assert "not_negative" in verdicts[0].reason
    assert verdicts[2].code == "held"
    assert {key: text for key, (text, _) in judging_rig.state().items()} == {"A": "a2", "B": "b1", "C": "c1"}


@pytest.mark.parametrize("seed", range(3))
def test_any_pattern_of_refused_documents_is_found_exactly(judging_rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    bad = {i for i in range(60) if rng.random() < (0.02, 0.3, 0.9)[seed]}
    run = [refused(i + 1, f"T{i}") if i in bad else thing(i + 1, f"T{i}", "good") for i in range(60)]
    for i in bad:
        judging_rig.refuse(run[i])
    sink = judging_rig.make()
    verdicts = sink.write(run)
    sink.close()
    assert {i for i, v in enumerate(verdicts) if v.outcome == "rejected"} == bad
    assert outcomes(verdicts).count("done") == 60 - len(bad)
    assert set(judging_rig.state()) == {f"T{i}" for i in range(60) if i not in bad}


def test_a_writer_killed_at_any_moment_leaves_nothing_lost_and_nothing_doubled(rig: Rig) -> None:
    rng = random.Random(7)
    run = versions(30, 40)
    for _ in range(4):
        _write_and_kill(rig, run, after_runs=rng.randrange(1, 12))
    sink = rig.make()
    for start in range(0, len(run), 50):
        deliver(sink, run[start : start + 50])
    sink.close()
    assert_each_once(rig, run)


def _write_and_kill(rig: Rig, run: list[Outgoing], *, after_runs: int) -> None:
    """Another process delivers *run* from the start; it is killed while it writes what follows *after_runs* runs."""
    order = {"kind": rig.kind, "settings": rig.settings, "base": str(rig.base), "secrets": dict(rig.secrets)}
    order["run"] = [(d.sequence, d.key, d.body.decode()) for d in run]
    process = subprocess.Popen([sys.executable, str(WRITER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        for _ in range(after_runs):
            assert process.stdout.readline() == b"written\n"
        process.kill()
