"""Who gets a certificate: tokens of several uses, one key for each use, and enrolments that wait for a person."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.errors import ConfigError
from crossdock.machine import key_code, machine_digest
from crossdock.v1 import link_pb2
from crossdock_controller.commands import enrolment, fleet
from crossdock_controller.store import agents, connection, refusals
from crossdock_controller.store.enrolments import MOST_ANSWERS
from support.gateway import Gateway, Identity, new_key, pem, running_gateway, stub, wait_until

BY = "local:test"
HERE = machine_digest("this machine")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


def turned_away(ask: Callable[[], object]) -> str:
    """Why it is refused; fails when it is not."""
    with pytest.raises(grpc.RpcError) as refused:
        ask()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED, refused.value
    return str(refused.value.details())


def greet(gateway: Gateway, identity: Identity, **fields: object) -> None:
    """The agent connects once, is welcomed, and leaves. Raises grpc.RpcError."""
    said = {"protocol": 1, "version": "1", "instance": b"i", "epoch": b"e" * 16} | fields
    hello = link_pb2.Report(hello=link_pb2.Hello(**said))  # type: ignore[arg-type]
    with gateway.link(identity) as channel:
        assert next(iter(stub(channel).Control(iter([hello]), timeout=60))).HasField("welcome")


def counted(gateway: Gateway) -> dict[tuple[str, str], int]:
    """{(kind, detail): attempts}."""
    with closing(connection.connect(gateway.data.state)) as db:
        found: dict[tuple[str, str], int] = {}
        for row in refusals.since(db, 0):
            found[row.kind, row.detail] = found.get((row.kind, row.detail), 0) + row.count
        return found


def audited(gateway: Gateway, action: str) -> list[dict[str, object]]:
    with closing(connection.connect(gateway.data.state)) as db:
        rows = db.execute("SELECT actor, target, details FROM audit WHERE action = ? ORDER BY seq", (action,))
        return [{"actor": actor, "target": target} | json.loads(details) for actor, target, details in rows]


def known(gateway: Gateway) -> list[str]:
    with closing(connection.connect(gateway.data.state)) as db:
        return [row.agent for row in agents.list_all(db)]


def code_of(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key_code(key.public_key().public_bytes(*form))


def test_each_use_of_a_token_makes_an_agent_named_after_site_and_host_and_no_use_counts_twice(
    gateway: Gateway,
) -> None:
    token = gateway.token(agent="", uses=5)
    hosts = ["WMS_01.corp.example", "wms-01", "Ünicode", "", "erp"]
    results: list[str] = []

    def enroll(host: str) -> None:
        try:
            results.append(gateway.ask(token, new_key(), host=host).agent)
        except grpc.RpcError as error:
            results.append(str(error.code()))

    threads = [threading.Thread(target=enroll, args=(host,)) for host in [*hosts, "late-1", "late-2", "late-3"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {name for name in results if not name.startswith("StatusCode")}
    assert len(names) == 5, results
    assert sorted(results).count("StatusCode.PERMISSION_DENIED") == 3
    assert set(known(gateway)) == names
    assert names <= {
        "atl1-wms-01", "atl1-wms-01-2", "atl1-nicode", "atl1-agent", "atl1-erp", "atl1-late-1", "atl1-late-2",
        "atl1-late-3",
    }  # fmt: skip


def test_an_answer_that_was_lost_is_given_again_to_the_same_key_until_its_agent_has_connected(
    gateway: Gateway,
) -> None:
    token, key = gateway.token(), new_key()
    gateway.ask(token, key)  # lost on the way
    answer = gateway.ask(token, key)
    greet(gateway, Identity(pem(key), answer.certificate, answer.ca_bundle))
    assert "already used" in turned_away(lambda: gateway.ask(token, key))


def test_one_use_of_a_token_makes_no_certificates_without_end(gateway: Gateway) -> None:
    token, key = gateway.token(), new_key()
    for _ in range(MOST_ANSWERS):
        assert gateway.ask(token, key).certificate
    assert "already used" in turned_away(lambda: gateway.ask(token, key))


def test_another_key_with_a_used_token_is_refused_and_shown(gateway: Gateway) -> None:
    token = gateway.token()
    gateway.ask(token, new_key())
    assert "with another key" in turned_away(lambda: gateway.ask(token, new_key(), host="thief"))
    wait_until(lambda: counted(gateway) == {("token", "other_key; host thief"): 1}, "it is counted")
    (entry,) = audited(gateway, "refused.token")
    assert (entry["actor"], entry["address"], entry["attempts"]) == ("controller", "127.0.0.1", 1)


def test_a_token_that_was_revoked_or_is_over_or_unknown_is_refused_by_name(gateway: Gateway) -> None:
    made = enrolment.create_token(gateway.data, "rtm1", "", 600, 1_000_000, by=BY)
    with pytest.raises(ConfigError, match="there is no token"):
        enrolment.revoke_token(gateway.data, "zz", 1, by=BY)
    (listed,) = enrolment.list_tokens(gateway.data, 1_000_001)
    assert (listed.id, listed.state, listed.made_by) == (made.id, "open", BY)
    assert made.token not in str(listed)
    token, key = gateway.token(uses=2, agent=""), new_key()
    gateway.ask(token, key)
    newest = next(t for t in enrolment.list_tokens(gateway.data, 0) if t.site == "atl1")
    assert (newest.uses, newest.uses_left) == (2, 1)
    assert enrolment.revoke_token(gateway.data, newest.id[:4], 5, by=BY).state == "revoked"
    for same_or_new in (key, new_key()):
        assert "was revoked" in turned_away(lambda k=same_or_new: gateway.ask(token, k))  # type: ignore[misc]
    assert "has expired" in turned_away(lambda: gateway.ask(gateway.token(seconds=-1), new_key()))
    assert "is unknown" in turned_away(lambda: gateway.ask("invented", new_key()))
    (entry,) = audited(gateway, "token.revoke")
    assert (entry["actor"], entry["target"]) == (BY, newest.id)


def test_an_enrolment_waits_for_a_person_across_a_restart_and_only_its_own_key_gets_in(tmp_path: Path) -> None:
    key = new_key()
    with running_gateway(tmp_path / "controller") as gateway:
        token = gateway.token(approve=True)
        answer = gateway.ask(token, key, host="wms-01", machine=HERE)
        assert (answer.pending, answer.certificate, answer.agent) == (True, b"", "atl1")
        assert answer.retry_seconds > 0
    with running_gateway(tmp_path / "controller") as gateway:
        assert gateway.ask(token, key, host="wms-01", machine=HERE).pending
        assert "with another key" in turned_away(lambda: gateway.ask(token, new_key()))
        (waiting,) = enrolment.pending(gateway.data)
        assert (waiting.agent, waiting.host, waiting.code, waiting.machine) == ("atl1", "wms-01", code_of(key), HERE)
        assert (waiting.address, waiting.replaces) == ("127.0.0.1", False)
        assert known(gateway) == []
        with pytest.raises(ConfigError, match="waits with code"):
            enrolment.decide(gateway.data, "atl1", 7, approve=True, by=BY, code="AAAAA-AAAAA")
        with pytest.raises(ConfigError, match="no agent 'atl2' waits"):
            enrolment.decide(gateway.data, "atl2", 7, approve=True, by=BY)
        assert gateway.ask(token, key, machine=HERE).pending
        enrolment.decide(gateway.data, "atl1", 7, approve=True, by=BY, code=code_of(key).lower())
        answer = gateway.ask(token, key, machine=HERE)
        assert not answer.pending
        greet(gateway, Identity(pem(key), answer.certificate, answer.ca_bundle), machine=HERE)
        assert enrolment.pending(gateway.data) == []
        assert [(e["actor"], e["code"]) for e in audited(gateway, "agents.approve")] == [(BY, code_of(key))]
        assert [(e["actor"], e["again"]) for e in audited(gateway, "agents.enrol")] == [("agent:atl1", False)]


def test_who_was_denied_is_told_why_and_stays_out(gateway: Gateway) -> None:
    token, key = gateway.token(approve=True), new_key()
    gateway.ask(token, key)
    enrolment.decide(gateway.data, "atl1", 7, approve=False, by=BY, because="not one of ours")
    for _ in range(2):
        assert "not one of ours" in turned_away(lambda: gateway.ask(token, key))
    with pytest.raises(ConfigError, match="no agent 'atl1' waits"):
        enrolment.decide(gateway.data, "atl1", 7, approve=True, by=BY)
    assert known(gateway) == []


def test_a_controller_that_wants_approval_asks_for_it_whatever_the_token_says(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller", approve_enrolments=True) as gateway:
        assert gateway.ask(gateway.token(), new_key()).pending


def test_two_that_wait_under_one_name_are_told_apart_by_their_codes(gateway: Gateway) -> None:
    keys = [new_key(), new_key()]
    tokens = [gateway.token(approve=True) for _ in keys]
    for token, key in zip(tokens, keys, strict=True):
        gateway.ask(token, key)
    with pytest.raises(ConfigError, match="--code"):
        enrolment.decide(gateway.data, "atl1", 7, approve=True, by=BY)
    enrolment.decide(gateway.data, "atl1", 7, approve=True, by=BY, code=code_of(keys[1]))
    assert gateway.ask(tokens[0], keys[0]).pending
    assert not gateway.ask(tokens[1], keys[1]).pending


def test_a_revocation_also_ends_what_the_agent_asked_for_before(gateway: Gateway) -> None:
    token, key = gateway.token(), new_key()
    gateway.ask(token, key)
    enrolment.revoke(gateway.data, "atl1", 7, by=BY, because="laptop stolen")
    assert "the agent was revoked" in turned_away(lambda: gateway.ask(token, key))
    (entry,) = audited(gateway, "agents.revoke")
    assert (entry["actor"], entry["target"], entry["because"]) == (BY, "atl1", "laptop stolen")


def test_a_certificate_of_before_a_revocation_is_void_for_ever_also_when_the_agent_enrols_anew(
    gateway: Gateway,
) -> None:
    stolen = gateway.enroll(gateway.token())[0]
    greet(gateway, stolen)
    unused = gateway.enroll(gateway.token())[0]
    enrolment.revoke(gateway.data, "atl1", 7, by=BY, because="laptop stolen")
    (shown,) = fleet.agents(gateway.data, 7)
    assert (shown.state, shown.problems) == ("revoked", [f"was revoked by {BY}: laptop stolen"])
    again = gateway.enroll(gateway.token())[0]
    for void in (stolen, unused):  # before the new one was ever used
        assert "before agent atl1 was revoked" in turned_away(lambda identity=void: greet(gateway, identity))  # type: ignore[misc]
    greet(gateway, again)
    wait_until(lambda: "outdated" in {kind for kind, _ in counted(gateway)}, "it is shown")


def test_what_was_settled_long_ago_is_forgotten_and_what_waits_is_not(gateway: Gateway) -> None:
    used, waits = gateway.token(agent="old"), gateway.token(agent="waits", approve=True)
    gateway.ask(used, new_key())
    gateway.ask(waits, new_key())
    with closing(connection.connect(gateway.data.state)) as db:
        db.execute("UPDATE enrolments SET state = 'done' WHERE agent = 'old'")
        db.execute("UPDATE enrolments SET last_us = 1")
        db.execute("UPDATE tokens SET expires_us = 1")
    gateway.ask(gateway.token(agent="new"), new_key())
    assert [e.agent for e in enrolment.pending(gateway.data)] == ["waits"]
    assert {t.agent for t in enrolment.list_tokens(gateway.data, 2)} == {"waits", "new"}
    assert "is unknown" in turned_away(lambda: gateway.ask(used, new_key()))


def test_a_request_that_makes_no_sense_uses_nothing_up(gateway: Gateway) -> None:
    token = gateway.token()
    for fields in ({"csr": b"noise"}, {"machine": "my-host"}):
        with pytest.raises(grpc.RpcError) as refused:
            gateway.ask(token, new_key(), **fields)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert gateway.ask(token, new_key()).agent == "atl1"
