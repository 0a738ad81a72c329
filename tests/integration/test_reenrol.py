"""An agent whose certificate ended while it was away comes back by itself, and nobody else comes in that way."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock_controller import ledger, processes
from crossdock_controller.authority import Authority
from crossdock_controller.commands import authorities
from crossdock_controller.store import agents, certificates, connection
from support.gateway import Gateway, Identity, csr_of, pem, running_gateway, stub
from support.trusting_agent import TrustingAgent

BY = "local:test"
DAY_US = 86_400_000_000


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(processes, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr("crossdock_controller.reenrolling.REFUSAL_SECONDS", 0.0)
    with running_gateway(tmp_path / "controller", grace_days=30.0) as running:
        yield running


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[TrustingAgent]:
    """It was connected, and its certificate ended ten days ago."""
    made = TrustingAgent(gateway)
    made.identity = aged(gateway, made, days=10)
    yield made
    made.disconnect()


def aged(gateway: Gateway, agent: TrustingAgent, days: float, authority: Authority | None = None) -> Identity:
    """What *agent* holds: a certificate for a day that ended *days* ago, in the ledger, and used then."""
    signer = authority or gateway.authority
    key = ec.generate_private_key(ec.SECP256R1())
    made = dt.datetime.now(dt.UTC) - dt.timedelta(days=days + 1)
    issued = signer.issue_agent(csr_of(key), agent.agent, dt.timedelta(days=1), made)
    if authority is None:
        row = ledger.of_issued(issued, agent.agent, "renewal", signer.bundle_fingerprints)
        with closing(connection.connect(gateway.data.state)) as db, connection.transaction(db):
            certificates.record(db, row)
            certificates.used(db, row, int(made.timestamp() * 1e6))
    return Identity(pem(key), issued.certificate, gateway.authority.bundle)


def refusal(agent: TrustingAgent, **changes: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        agent.reenroll(**changes)
    return refused.value.code(), refused.value.details()


def audit(gateway: Gateway) -> list[tuple[str, str, str, dict[str, object]]]:
    with closing(connection.connect(gateway.data.state)) as db:
        rows = db.execute(
            "SELECT actor, action, target, details FROM audit WHERE action LIKE 'agents.reenrol%' ORDER BY seq"
        )
        return [(*row[:3], json.loads(row[3])) for row in rows]


def test_an_agent_whose_certificate_ended_within_the_grace_is_back_with_a_new_one(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    with pytest.raises(grpc.RpcError), gateway.link(agent.identity) as channel:  # the old one does not do any more
        list(stub(channel).Uplink(iter(()), timeout=20))
    answer = agent.reenroll()
    assert (answer.agent, answer.site) == ("atl1", "atl1")
    assert answer.link_address == gateway.addresses.link
    assert answer.enrollment_address == gateway.addresses.enrollment
    assert answer.ca_bundle == gateway.authority.bundle
    agent.connect()
    with closing(connection.connect(gateway.data.state)) as db:
        newest = certificates.of_agent(db, "atl1")[-1]
        row = agents.get(db, "atl1")
    assert (newest.how, newest.use_order) == ("reenrol", 2)
    assert row is not None
    assert row.certificate_expires_us == newest.expires_us
    ((actor, action, target, details),) = audit(gateway)
    assert (actor, action, target) == ("agent:atl1", "agents.reenrol", "atl1")
    assert details["host"] == "wms-01"


def test_an_answer_that_was_lost_does_not_matter_the_same_certificate_asks_again(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    kept = agent.identity
    agent.reenroll()
    agent.identity = kept  # it never heard of it
    agent.reenroll()
    agent.connect()
    agent.disconnect()
    agent.identity = kept  # now a newer one is in use: whoever shows this one is somebody else
    code, said = refusal(agent)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "newer certificate" in said


def test_an_older_certificate_than_the_newest_in_use_is_a_copy_refused_noted_and_told(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    stolen = agent.identity
    agent.identity = aged(gateway, agent, days=3)  # the real one has renewed since
    real = agent.identity
    agent.identity = stolen
    code, said = refusal(agent)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "agent atl1 uses a newer certificate than this one" in said
    assert "crossdock token create" in said
    ((actor, action, _, details),) = audit(gateway)
    assert (actor, action, details["host"]) == ("agent:atl1", "agents.reenrol_refused", "wms-01")
    agent.identity = real
    agent.reenroll()
    agent.connect()


def test_beyond_the_grace_only_a_token_helps(gateway: Gateway, agent: TrustingAgent) -> None:
    agent.identity = aged(gateway, agent, days=31)
    code, said = refusal(agent)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "ended 31.0 days ago" in said
    assert "30 days" in said
    assert "crossdock token create" in said


def test_a_revoked_agent_does_not_come_back_this_way(gateway: Gateway, agent: TrustingAgent) -> None:
    with closing(connection.connect(gateway.data.state)) as db:
        agents.revoke(db, "atl1")
    code, said = refusal(agent)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "agent atl1 is revoked" in said
    with closing(connection.connect(gateway.data.state)) as db:
        db.execute("DELETE FROM agents")
    assert "is on no list" in refusal(agent)[1]


@pytest.mark.parametrize(
    "change",
    [
        {"csr": csr_of(ec.generate_private_key(ec.SECP256R1()))},
        {"machine": "x" * 64},
        {"clock_us": time.time_ns() // 1000 + 5},
        {"proof": b""},
        {"proof": b"0" * 70},
    ],
    ids=["csr", "machine", "clock", "no proof", "noise"],
)
def test_the_proof_holds_for_this_request_alone(gateway: Gateway, agent: TrustingAgent, change: dict[str, Any]) -> None:
    code, said = refusal(agent, **change)
    assert (code, "proof" in said) == (grpc.StatusCode.UNAUTHENTICATED, True)


def test_a_certificate_of_a_stranger_or_of_a_retired_authority_proves_nothing(
    gateway: Gateway, agent: TrustingAgent, tmp_path: Path
) -> None:
    mine = agent.identity
    agent.identity = aged(gateway, agent, 10, Authority.open(tmp_path / "stranger"))
    assert refusal(agent)[0] == grpc.StatusCode.UNAUTHENTICATED
    old = gateway.authority.fingerprint
    now_us = time.time_ns() // 1000
    for step in (authorities.add, authorities.issue, authorities.switch):
        step(gateway.data, now_us, BY)
    authorities.retire(gateway.data, old, now_us, BY, force=True)
    gateway.authority.refresh()
    agent.identity = Identity(mine.key, mine.certificate, gateway.authority.bundle)
    code, said = refusal(agent)
    assert (code, "retired" in said) == (grpc.StatusCode.UNAUTHENTICATED, True)


def test_the_controllers_own_certificate_or_noise_is_not_that_of_an_agent(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    server = gateway.authority.issue_server(["localhost"], dt.datetime.now(dt.UTC))
    agent.identity = Identity(server.key, server.certificate, gateway.authority.bundle)
    assert refusal(agent)[0] == grpc.StatusCode.INVALID_ARGUMENT
    for noise in (b"", b"x" * 20_000, x509.load_pem_x509_certificate(gateway.authority.bundle).tbs_certificate_bytes):
        assert refusal(agent, certificate=noise)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(agent, csr=b"noise")[0] != grpc.StatusCode.UNKNOWN


def test_a_broken_request_for_a_certificate_is_refused_though_its_proof_is_good(
    gateway: Gateway, agent: TrustingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.trusting_agent.csr_of", lambda _key: b"noise")
    code, said = refusal(agent)
    assert (code, "certificate request" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_while_the_agent_is_connected_a_copy_of_it_is_refused_and_shown(gateway: Gateway, agent: TrustingAgent) -> None:
    copy = Identity(agent.identity.key, agent.identity.certificate, agent.identity.bundle)
    agent.reenroll()
    agent.connect()
    other = TrustingAgent.__new__(TrustingAgent)
    other.gateway, other.agent, other.identity = gateway, "atl1", copy
    code, said = refusal(other)
    assert (code, "connected now" in said) == (grpc.StatusCode.ALREADY_EXISTS, True)
    assert agent.alive


def test_an_agent_that_the_ledger_does_not_know_comes_back_unless_it_is_behind(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    """After a restore of the controller, the ledger lacks what was issued since."""
    older = agent.identity
    agent.identity = newest = aged(gateway, agent, days=2)
    with closing(connection.connect(gateway.data.state)) as db:
        db.execute("DELETE FROM certificates")
    agent.identity = older
    agent.reenroll()  # nobody knows better
    agent.identity = newest
    agent.reenroll()
    agent.connect()
    agent.disconnect()
    agent.identity = older
    assert "newer certificate" in refusal(agent)[1]
