"""The port that anyone may reach: guessing gets slower, a flood is told to wait, and a site enrols all the same."""

import asyncio
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from crossdock.errors import ControllerUnavailable, Refused
from crossdock.tls import server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
from crossdock_agent import asking
from crossdock_controller.refusing import AUDITED_PER_HOUR, WAITING, Refusals
from crossdock_controller.store import connection, migrate, refusals
from support.gateway import Gateway, csr_of, new_key, running_gateway, wait_until
from support.relay import Relay

ELSEWHERE = "127.0.0.9"
two_addresses = pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 answers there")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "controller") as running:
        yield running


def flood(gateway: Gateway, seconds: float, codes: Counter[str], details: set[str], *, reenroll: bool) -> None:
    """One address tries with invented words for as long, four at a time."""
    credentials = server_only_credentials(gateway.authority.bundle)
    csr, until = csr_of(new_key()), time.monotonic() + seconds

    def one(channel: grpc.Channel) -> None:
        stub = enrollment_pb2_grpc.EnrollmentStub(channel)  # type: ignore[no-untyped-call]
        while time.monotonic() < until:
            try:
                if reenroll:
                    stub.Reenroll(enrollment_pb2.ReenrollRequest(certificate=b"x", csr=csr, proof=b"y"), timeout=60)
                else:
                    stub.Enroll(enrollment_pb2.EnrollRequest(token="guess", csr=csr), timeout=60)
            except grpc.RpcError as error:
                codes[error.code().name] += 1  # type: ignore[attr-defined]
                details.add(f"{error.code().name}: {error.details()}")  # type: ignore[attr-defined]
                told = dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:  # type: ignore[attr-defined]
                    assert int(told["retry-after-seconds"]) >= 1

    with gateway.channel(gateway.addresses.enrollment, credentials) as channel:
        threads = [threading.Thread(target=one, args=(channel,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@two_addresses
@pytest.mark.parametrize("reenroll", [False, True], ids=["tokens", "certificates"])
def test_a_site_enrols_while_another_address_guesses(gateway: Gateway, reenroll: bool) -> None:
    codes: Counter[str] = Counter()
    details: set[str] = set()
    guesser = threading.Thread(target=flood, args=(gateway, 2.0, codes, details), kwargs={"reenroll": reenroll})
    with Relay(gateway.addresses.enrollment, source=ELSEWHERE) as relay:
        guesser.start()
        wait_until(lambda: codes["RESOURCE_EXHAUSTED"] > 20, "the guesser is held off")
        assert gateway.ask(gateway.token(), new_key(), f"127.0.0.1:{relay.port}").agent == "atl1"
        assert guesser.is_alive()
        guesser.join()
    wrong = "INVALID_ARGUMENT" if reenroll else "PERMISSION_DENIED"
    assert set(codes) == {wrong, "RESOURCE_EXHAUSTED"}, details
    assert codes[wrong] < 40
    assert any("try again in" in text for text in details)
    attempts = sum(codes.values())
    with closing(connection.connect(gateway.data.state)) as db:
        wait_until(lambda: sum(row.count for row in refusals.since(db, 0)) == attempts, "each is counted")
        assert {(row.kind, row.address) for row in refusals.since(db, 0)} == {
            ("reenrol" if reenroll else "token", "127.0.0.1"), ("flood", "127.0.0.1"),
        }  # fmt: skip
        assert db.execute("SELECT count(*) FROM audit WHERE action LIKE 'refused.%'").fetchone() == (2,)


def test_a_site_that_goes_on_with_a_used_token_keeps_nobody_out_who_comes_by_the_same_address(gateway: Gateway) -> None:
    used = gateway.token()
    gateway.ask(used, new_key())
    request = enrollment_pb2.EnrollRequest(token=used, csr=csr_of(new_key()))
    waits: list[ControllerUnavailable] = []
    for _ in range(100):
        with pytest.raises((Refused, ControllerUnavailable)) as told:  # as the agent understands it
            asking.ask(gateway.addresses.enrollment, gateway.authority.bundle, request)
        if isinstance(told.value, ControllerUnavailable):
            waits.append(told.value)
            break
    assert "asks to wait: too many attempts" in str(waits[0])
    assert (waits[0].after_seconds or 0) >= 1
    assert gateway.ask(gateway.token("rtm1", "rtm1"), new_key()).agent == "rtm1"


def test_a_message_that_is_larger_than_any_honest_one_is_not_read(gateway: Gateway) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        gateway.ask("x" * 1_000_000, new_key())
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert gateway.ask(gateway.token(), new_key()).agent == "atl1"


def test_thousands_of_addresses_make_few_rows_and_few_lines_in_the_audit_log(tmp_path: Path) -> None:
    migrate(tmp_path / "state.db")
    with closing(connection.connect(tmp_path / "state.db")) as db:

        async def note(call: Callable[[sqlite3.Connection], object]) -> None:
            with connection.transaction(db):
                call(db)

        collected = Refusals(note)
        for n in range(20_000):
            collected.add("token", "", f"10.{n >> 8}.{n & 255}.1", "unknown")
            if n % 4_000 == 3_999:
                assert len(collected._waiting) <= WAITING + 1
                asyncio.run(collected.flush())
        rows = refusals.since(db, 0)
        assert sum(row.count for row in rows) == 20_000
        assert len(rows) <= refusals.PORT_ROWS + 1
        audited = db.execute("SELECT count(*) FROM audit").fetchone()[0]
        assert 0 < audited <= AUDITED_PER_HOUR
