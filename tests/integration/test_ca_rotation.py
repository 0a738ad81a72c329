"""A certificate authority is replaced under a running controller, and no agent is left behind (real TLS throughout)."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from crossdock.errors import ConfigError
from crossdock.v1 import link_pb2
from crossdock_controller import processes
from crossdock_controller.authority import Authority, files
from crossdock_controller.commands import authorities, enrolment
from crossdock_controller.store import agents, certificates, connection
from support.authorities import old_release
from support.gateway import Gateway, running_gateway, stub, wait_until
from support.trusting_agent import OLD, TrustingAgent, fingerprints, signed_by

BY = "local:test"


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "REFRESH_SECONDS", 0.05)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[TrustingAgent]:
    made = TrustingAgent(gateway)
    yield made
    made.disconnect()


def rotate(gateway: Gateway, *steps: str) -> None:
    for step in steps:
        getattr(authorities, step)(gateway.data, now_us(), BY)
    gateway.authority.refresh()


def confirmed(gateway: Gateway, agent: str = "atl1") -> frozenset[str]:
    with closing(connection.connect(gateway.data.state)) as db:
        return certificates.trusted_by(db, agent)


def audited(gateway: Gateway) -> list[tuple[str, str, dict[str, object]]]:
    with closing(connection.connect(gateway.data.state)) as db:
        rows = db.execute("SELECT actor, action, details FROM audit WHERE action LIKE 'authority.%' ORDER BY seq")
        return [(actor, action, json.loads(details)) for actor, action, details in rows]


def configured(gateway: Gateway, directory: Path) -> None:
    """A revision whose tree has site atl1."""
    from click.testing import CliRunner

    from crossdock_controller.cli import root

    (directory / "sites").mkdir(parents=True)
    (directory / "sites" / "atl1.yaml").write_text("site: atl1\nlabels: {}\nstop_all: true\n", "utf-8")
    done = CliRunner().invoke(root, ["apply", str(directory), "--data", str(gateway.data.root)])
    assert done.exit_code == 0, done.output


def test_a_connected_agent_goes_through_all_phases_on_one_stream_that_is_never_cut(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    old = gateway.authority.fingerprint
    agent.connect()
    rotate(gateway, "add")
    new = gateway.authority.states[1].fingerprint
    wait_until(lambda: confirmed(gateway) == {old, new}, "the agent says that it trusts the new one")
    assert agent.renewals == 0
    rotate(gateway, "issue")
    wait_until(lambda: agent.renewals == 1, "it renews at once")
    rotate(gateway, "switch")
    assert agent.alive, "nothing of this cut its stream"
    with pytest.raises(ConfigError, match="atl1 holds a certificate of it"):
        rotate_out(gateway, old)  # the one it used last is still of the old one
    agent.connect()
    assert agent.maker == x509.load_pem_x509_certificates(gateway.authority.bundle)[1].subject
    rotate_out(gateway, old)
    wait_until(lambda: confirmed(gateway) == {new}, "it trusts the old one no more")
    assert agent.alive
    assert [(a, d) for _, a, d in audited(gateway)] == [
        ("authority.add", {}), ("authority.issue", {}), ("authority.switch", {}), ("authority.retire", {}),
    ]  # fmt: skip
    assert {actor for actor, _, _ in audited(gateway)} == {BY}


def rotate_out(gateway: Gateway, fingerprint: str, *, force: bool = False) -> authorities.Step:
    done = authorities.retire(gateway.data, fingerprint, now_us(), BY, force=force)
    gateway.authority.refresh()
    return done


def test_an_agent_that_was_away_through_add_issue_and_switch_comes_back_with_what_it_has(
    gateway: Gateway, agent: TrustingAgent, tmp_path: Path
) -> None:
    configured(gateway, tmp_path / "tree")
    old = gateway.authority.fingerprint
    rotate(gateway, "add", "issue", "switch")
    assert fingerprints(agent.identity.bundle) == [old], "it knows the old one alone"
    agent.connect()  # verifies the server by the cross certificate
    wait_until(lambda: agent.configs() and agent.renewals == 1, "it is configured, and renews")
    offer = agent.configs()[0]
    bundle = gateway.authority.bundle
    assert signed_by(offer.config, offer.signature, bundle) == [old], "it could check no other signature then"
    agent.connect()
    assert set(confirmed(gateway)) == set(gateway.authority.bundle_fingerprints)
    wait_until(agent.configs, "it is offered the configuration again")
    offer = agent.configs()[0]
    assert signed_by(offer.config, offer.signature, bundle) == [gateway.authority.fingerprint]


def test_an_agent_that_was_away_through_two_whole_replacements_is_waited_for(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    first = gateway.authority.fingerprint
    rotate(gateway, "add", "issue", "switch", "add", "issue", "switch")
    for fingerprint in gateway.authority.bundle_fingerprints[:2]:
        with pytest.raises(ConfigError, match="atl1"):
            rotate_out(gateway, fingerprint)
    agent.connect()  # leaf of the third, cross certificate of the first
    wait_until(lambda: agent.renewals == 1, "it renews")
    agent.connect()
    for fingerprint in gateway.authority.bundle_fingerprints[:2]:
        rotate_out(gateway, fingerprint)
    agent.connect()
    assert first not in fingerprints(agent.identity.bundle)


def test_a_new_agent_enrols_at_any_phase_with_a_token_made_in_an_earlier_one(gateway: Gateway) -> None:
    for number, step in enumerate(("add", "issue", "switch", "add", "issue", "switch"), 1):
        made = enrolment.create_token(gateway.data, f"s{number}", "", 60, now_us())
        rotate(gateway, step)
        assert enrolled(gateway, made.token) == f"s{number}"


def enrolled(gateway: Gateway, token: str, *, pending: bool = False) -> str:
    """As a site does it: the token alone says whom to trust."""
    import base64

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    from crossdock.tls import server_only_credentials
    from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
    from support.gateway import csr_of

    body = json.loads(base64.urlsafe_b64decode(token.removeprefix("cd1_") + "==="))
    trusted = x509.load_der_x509_certificate(base64.b64decode(body["c"])).public_bytes(Encoding.PEM)
    with gateway.channel(body["a"], server_only_credentials(trusted)) as channel:
        request = enrollment_pb2.EnrollRequest(token=body["t"], csr=csr_of(ec.generate_private_key(ec.SECP256R1())))
        answer = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(request, timeout=60)  # type: ignore[no-untyped-call]
    assert answer.pending == pending
    if pending:
        return str(answer.agent)
    assert answer.enrollment_address == gateway.addresses.enrollment
    assert fingerprints(answer.ca_bundle) == list(gateway.authority.bundle_fingerprints)
    return str(answer.agent)


def test_a_release_that_says_nothing_of_trust_is_believed_once_it_uses_a_certificate_that_came_with_the_bundle(
    gateway: Gateway,
) -> None:
    agent = TrustingAgent(gateway, capabilities=OLD)
    old = gateway.authority.fingerprint
    agent.connect()
    rotate(gateway, "add", "issue", "switch")
    agent.connect()
    with pytest.raises(ConfigError, match="atl1 holds a certificate of it"):
        rotate_out(gateway, old)
    agent.renew()  # at two thirds of its certificate's life, by itself
    wait_until(lambda: agent.renewals == 1, "it has renewed")
    agent.connect()
    assert not [d for d in agent.directives if d.WhichOneof("kind") == "trust"]
    rotate_out(gateway, old)
    agent.connect()
    agent.disconnect()


def test_retiring_refuses_by_name_and_force_says_who_is_locked_out_and_cuts_them(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    old = gateway.authority.fingerprint
    agent.connect()
    rtm = TrustingAgent(gateway, "rtm1")
    token = enrolment.create_token(gateway.data, "ham1", "", 60, now_us())
    rotate(gateway, "add", "issue", "switch")
    wait_until(lambda: agent.renewals == 1, "atl1 has renewed")
    agent.connect()
    listed = authorities.listing(gateway.data, now_us())
    needs = {n.agent: n.reason for n in listed.authorities[0].needed_by}
    assert set(needs) == {"rtm1", "ham1"}
    assert "holds a certificate of it" in needs["rtm1"]
    assert "join token" in needs["ham1"]
    with pytest.raises(ConfigError) as refused:
        rotate_out(gateway, old)
    assert all(name in refused.value.message for name in needs)
    assert "--force" in refused.value.hint
    rtm.capabilities = OLD  # so that it does not renew: it stands for one that does not get to it
    rtm.connect()
    done = rotate_out(gateway, old, force=True)
    assert {n.agent for n in done.locked_out} == {"rtm1", "ham1"}
    assert audited(gateway)[-1][1:] == ("authority.retire", {"locked_out": ["rtm1", "ham1"]})
    wait_until(lambda: not rtm.alive, "the stream of a certificate that nobody trusts any more is cut")
    assert rtm.ended is not None
    assert rtm.ended.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError):
        rtm.connect()
    assert agent.alive, "the one that has renewed is not cut"
    with pytest.raises(grpc.RpcError):
        enrolled(gateway, token.token)
    rtm.disconnect()


def test_a_call_on_a_connection_made_before_its_authority_was_retired_is_refused(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    with gateway.link(agent.identity) as channel:
        grpc.channel_ready_future(channel).result(60)
        old = gateway.authority.fingerprint
        rotate(gateway, "add", "issue", "switch")
        rotate_out(gateway, old, force=True)

        def refused() -> bool:
            try:
                list(stub(channel).Uplink(iter(()), timeout=60))
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.UNAUTHENTICATED and "retired" in (error.details() or "")
            return False

        wait_until(refused, "it is refused")


def test_an_agent_that_waits_for_approval_holds_the_authority_of_its_token(gateway: Gateway) -> None:
    old = gateway.authority.fingerprint
    token = enrolment.create_token(gateway.data, "ham1", "", 60, now_us(), approve=True, by=BY)
    assert enrolled(gateway, token.token, pending=True) == "ham1"
    rotate(gateway, "add", "issue", "switch")
    with pytest.raises(ConfigError, match="ham1 waits for approval"):
        rotate_out(gateway, old)


def test_whoever_can_never_come_back_by_itself_or_is_revoked_holds_nothing_back(gateway: Gateway) -> None:
    old = gateway.authority.fingerprint
    TrustingAgent(gateway, "gone1")
    TrustingAgent(gateway, "revoked1")
    with closing(connection.connect(gateway.data.state)) as db:
        agents.revoke(db, "revoked1")
        ended = now_us() - int(dt.timedelta(days=31).total_seconds() * 1e6)
        db.execute("UPDATE certificates SET expires_us = ? WHERE agent = 'gone1'", (ended,))
    rotate(gateway, "add", "issue", "switch")
    assert rotate_out(gateway, old).locked_out == []


def test_an_agent_within_the_grace_is_waited_for(gateway: Gateway) -> None:
    old = gateway.authority.fingerprint
    TrustingAgent(gateway, "away1")
    with closing(connection.connect(gateway.data.state)) as db:
        ended = now_us() - int(dt.timedelta(days=29).total_seconds() * 1e6)
        db.execute("UPDATE certificates SET expires_us = ?", (ended,))
    rotate(gateway, "add", "issue", "switch")
    with pytest.raises(ConfigError, match=r"away1 holds a certificate of it that ended 29 d ago, within the 30 d"):
        rotate_out(gateway, old)


def test_an_agent_that_has_not_been_seen_since_the_upgrade_is_taken_to_hold_one_of_the_first_authority(
    gateway: Gateway,
) -> None:
    old = gateway.authority.fingerprint
    TrustingAgent(gateway, "quiet1")
    with closing(connection.connect(gateway.data.state)) as db:
        db.execute("DELETE FROM certificates")
    rotate(gateway, "add", "issue", "switch")
    with pytest.raises(ConfigError, match="quiet1 has not been seen"):
        rotate_out(gateway, old)


def test_the_first_authority_of_an_old_release_serves_until_every_agent_has_confirmed_the_next(tmp_path: Path) -> None:
    old_release(tmp_path / "controller" / "authority")
    with running_gateway(tmp_path / "controller") as gateway:
        agent = TrustingAgent(gateway)
        token = enrolment.create_token(gateway.data, "ham1", "", 60, now_us())
        rotate(gateway, "add", "issue")
        with pytest.raises(ConfigError, match="atl1 has not confirmed that it trusts") as refused:
            rotate(gateway, "switch")
        assert "crossdock-agent check" in refused.value.hint
        assert "ham1 a join token for it carries" in refused.value.message
        agent.connect()
        wait_until(lambda: agent.renewals == 1, "it heard of the new one")
        enrolled(gateway, token.token)
        wait_until(lambda: len(confirmed(gateway)) == 2, "it has confirmed")
        rotate(gateway, "switch")
        agent.connect()
        assert agent.alive
        rotate_out(gateway, gateway.authority.bundle_fingerprints[0])
        agent.connect()
        agent.disconnect()


def test_the_listing_says_who_trusts_what_when_all_of_it_ends_and_what_comes_next(
    gateway: Gateway, agent: TrustingAgent
) -> None:
    agent.connect()
    found = authorities.listing(gateway.data, now_us())
    assert (found.next_step, found.agents) == ("", 1)
    (one,) = found.authorities
    assert (one.state, one.trusted_by, one.held_by, one.needed_by) == ("issuing, serving", 1, 1, [])
    rotate(gateway, "add")
    assert authorities.listing(gateway.data, now_us()).next_step == "crossdock ca issue"
    wait_until(lambda: [a.trusted_by for a in authorities.listing(gateway.data, 1).authorities] == [1, 1], "both")
    ends = dict(authorities.ends(gateway.data))
    assert len(ends) == 3
    server = ends["certificate of the controller"]
    assert dt.timedelta(days=29) < dt.timedelta(microseconds=server - now_us()) <= dt.timedelta(days=30)


def test_nothing_changes_that_is_not_in_the_audit_log(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(OSError, match="disk full"):
        rotate(gateway, "add")
    assert [a for _, a, _ in audited(gateway)] == ["authority.add", "authority.add_failed"]
    monkeypatch.undo()
    assert len(Authority.open(gateway.data.authority).states) == 1


def test_two_steps_at_once_exclude_each_other(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossdock.errors import Refused
    from crossdock_controller import authority as module

    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    with Authority.lock(gateway.data.authority), pytest.raises(Refused, match="in use"):
        rotate(gateway, "add")


def test_a_trust_that_was_not_taken_up_is_not_sent_with_every_heartbeat(gateway: Gateway, agent: TrustingAgent) -> None:
    agent._take = lambda _directive: None  # type: ignore[method-assign] - its disk is full, say
    agent.connect()
    rotate(gateway, "add")

    def told() -> int:
        return sum(d.WhichOneof("kind") == "trust" for d in agent.directives)

    wait_until(lambda: told() == 1, "it is told")
    for _ in range(5):
        agent.heartbeat()
    agent._outgoing.put(link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=b"noise")))
    wait_until(lambda: agent.directives[-1].WhichOneof("kind") == "certificate", "all of them were heard")
    assert told() == 1


def test_the_command_line_says_what_is_what_and_what_comes_next(gateway: Gateway, agent: TrustingAgent) -> None:
    from click.testing import CliRunner

    from crossdock_controller.cli import root

    def crossdock(*arguments: str) -> str:
        done = CliRunner().invoke(root, [*arguments], env={"CROSSDOCK_DATA": str(gateway.data.root)})
        assert done.exit_code == 0 or arguments[1:2] == ("retire",), done.output
        return str(done.output) + (str(done.exception) if done.exception else "")

    old = gateway.authority.fingerprint
    assert f"{old[:12]} issuing, serving" in " ".join(crossdock("ca").split())
    assert "next, once 'crossdock ca' names nobody in the way: crossdock ca issue" in crossdock("ca", "add")
    gateway.authority.refresh()
    assert crossdock("ca", "bundle").encode() == gateway.authority.bundle
    crossdock("ca", "issue")
    crossdock("ca", "switch")
    said = " ".join(crossdock("ca").split())
    assert f"! {old[:12]}: atl1 holds a certificate of it, for 24 h more; let it connect once" in said
    assert f"next: crossdock ca retire {old[:12]}" in said
    assert "cannot retire yet" in crossdock("ca", "retire", old[:8])
    forced = crossdock("ca", "retire", old[:8], "--force")
    assert "locked out: atl1" in forced
    listed = json.loads(crossdock("ca", "--json"))
    assert [a["state"] for a in listed["authorities"]] == ["retired", "issuing, serving"]
    actors = {actor for actor, _, _ in audited(gateway)}
    assert all(actor.startswith("local:") and len(actor) > 6 for actor in actors)
