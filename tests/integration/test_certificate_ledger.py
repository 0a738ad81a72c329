"""Every certificate that leaves the gateway is in the ledger, and its first use too."""

import datetime as dt
import queue
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.v1 import link_pb2
from crossdock_controller.commands import risks
from crossdock_controller.store import agents, certificates, connection, facts, faults
from support.gateway import Gateway, Identity, csr_of, pem, running_gateway, stub, wait_until


@contextmanager
def session(gateway: Gateway, identity: Identity, *reports: link_pb2.Report) -> Iterator[Any]:
    outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
    hello = link_pb2.Hello(protocol=1, capabilities=["config", "certificate"], instance=b"i", epoch=b"e" * 16)
    for report in (link_pb2.Report(hello=hello), *reports):
        outgoing.put(report)
    with gateway.link(identity) as channel:
        yield stub(channel).Control(iter(outgoing.get, None), timeout=60)
        outgoing.put(None)


def ledger(gateway: Gateway) -> list[certificates.Certificate]:
    with closing(connection.connect(gateway.data.state)) as db:
        return certificates.of_agent(db, "atl1")


def test_enrolment_renewal_and_first_use_are_in_the_ledger(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        (row,) = ledger(gateway)
        assert (row.how, row.authority, row.use_order) == ("enrol", gateway.authority.fingerprint, 0)
        assert row.serial == format(x509.load_pem_x509_certificate(identity.certificate).serial_number, "x")
        key = ec.generate_private_key(ec.SECP256R1())
        ask = link_pb2.Report(certificate_request=link_pb2.CertificateRequest(csr=csr_of(key)))
        with session(gateway, identity, ask) as call:
            assert next(call).WhichOneof("kind") == "welcome"
            renewed = next(call).certificate.certificate
            assert [(c.how, c.use_order) for c in ledger(gateway)] == [("enrol", 1), ("renewal", 0)]
        with session(gateway, Identity(pem(key), renewed, identity.bundle)) as call:
            next(call)
            assert [(c.how, c.use_order) for c in ledger(gateway)] == [("enrol", 1), ("renewal", 2)]


def test_an_agent_that_asks_for_certificates_and_uses_none_does_not_fill_the_ledger(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        request = link_pb2.CertificateRequest(csr=csr_of(ec.generate_private_key(ec.SECP256R1())))
        asks = [link_pb2.Report(certificate_request=request)] * 30
        with session(gateway, identity, *asks) as call:
            assert next(call).WhichOneof("kind") == "welcome"
            answers = [next(call).certificate for _ in asks]
        assert "20 certificates in an hour and used none of them" in answers[-1].refused
        assert len(ledger(gateway)) == 21


def test_a_certificate_that_the_ledger_does_not_know_comes_in_at_its_first_use(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        with closing(connection.connect(gateway.data.state)) as db:
            db.execute("DELETE FROM certificates")  # as it is after an upgrade, or in a restored store
        with session(gateway, identity) as call:
            next(call)
            (row,) = ledger(gateway)
        assert (row.how, row.use_order, row.authority) == ("seen", 1, gateway.authority.fingerprint)
        with session(gateway, identity) as call:  # and stays one row
            next(call)
            wait_until(lambda: len(ledger(gateway)) == 1, "the ledger has one row")


def forged(gateway: Gateway, made: dt.datetime) -> Identity:
    """By who has a copy of the authority's key."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = gateway.authority.issue_agent(csr_of(key), "atl1", dt.timedelta(days=3), made)
    return Identity(pem(key), issued.certificate, gateway.authority.bundle)


def alarms(gateway: Gateway) -> tuple[list[str], list[str]]:
    """(subjects in the audit log, subjects among the risks)."""
    with closing(connection.connect(gateway.data.state)) as db:
        found = db.execute("SELECT target FROM audit WHERE action = 'agents.certificate_unissued'").fetchall()
    told = risks.risks(gateway.data, time.time_ns() // 1000).risks
    return [target for (target,) in found], [risk.subject for risk in told if risk.kind == "forged"]


def test_a_certificate_of_our_authority_that_was_never_issued_here_is_an_alarm(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        with session(gateway, identity) as call:
            next(call)
        assert alarms(gateway) == ([], [])
        with session(gateway, forged(gateway, dt.datetime.now(dt.UTC))) as call:
            next(call)
        wait_until(lambda: alarms(gateway) == (["atl1"], ["atl1"]), "a person is told")


def test_a_certificate_that_was_issued_while_the_disk_was_full_is_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise faults.StoreFull("there is no room")

    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        key = ec.generate_private_key(ec.SECP256R1())
        outgoing: queue.Queue[link_pb2.Report | None] = queue.Queue()
        hello = link_pb2.Hello(protocol=1, capabilities=["config", "certificate"], instance=b"i", epoch=b"e" * 16)
        outgoing.put(link_pb2.Report(hello=hello))
        with gateway.link(identity) as channel, monkeypatch.context() as disk:
            call = stub(channel).Control(iter(outgoing.get, None), timeout=60)
            next(call)
            disk.setattr(agents, "record_certificate", full)
            ask = link_pb2.CertificateRequest(csr=csr_of(key))
            outgoing.put(link_pb2.Report(certificate_request=ask))
            renewed = next(call).certificate.certificate
            outgoing.put(None)
        with session(gateway, Identity(pem(key), renewed, identity.bundle)) as call:
            next(call)
            assert [(c.how, c.use_order) for c in ledger(gateway)] == [("enrol", 1), ("renewal", 2)]
        assert alarms(gateway) == ([], [])


def test_what_a_restored_store_has_forgotten_is_no_alarm(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "controller") as gateway:
        identity, _ = gateway.enroll(gateway.token())
        with session(gateway, identity) as call:
            next(call)
        now_us = time.time_ns() // 1000
        with closing(connection.connect(gateway.data.state)) as db:  # its backup is older than the one shown
            facts.put(db, "backup_us", str(now_us - 10 * 3_600_000_000).encode())
            facts.put(db, "restored_us", str(now_us).encode())
            db.execute("UPDATE certificates SET issued_us = ?", (now_us - 20 * 3_600_000_000,))
        with session(gateway, forged(gateway, dt.datetime.now(dt.UTC) - dt.timedelta(hours=5))) as call:
            next(call)
            wait_until(lambda: len(ledger(gateway)) == 2, "it is in the ledger")
        assert alarms(gateway) == ([], [])
