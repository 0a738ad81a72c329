"""The chaos harness can fail: what is missing, doubled, invented or out of order is found, and a seed replays."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from chaos.ledger import Findings, Got, Ledger, Record, balance
from chaos.proxy import Proxy
from chaos.schedule import KINDS, plan

A1, A2, A3, B1 = Record("a", 1), Record("a", 2), Record("a", 3), Record("b", 1)


def found(*arrivals: Record, must: set[Record] | None = None, strict_order: bool = True) -> list[str]:
    findings = Findings()
    got = [Got(record, f"e{record}") for record in arrivals]
    balance(
        "s", got, {A1, A2, B1} if must is None else must, {A1, A2, B1}, strict_order=strict_order, findings=findings
    )
    return findings.sentences


def test_what_was_given_and_came_once_in_order_balances() -> None:
    assert found(A1, B1, A2) == []


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ((A1, B1), "1 missing: a#2"),
        ((A1, A2, B1, A1), "1 doubled: a#1"),
        ((A1, A2, B1, A3), "1 never given: a#3"),
        ((A2, A1, B1), "1 out of order: a#1"),
    ],
)
def test_what_does_not_balance_is_named(arrivals: tuple[Record, ...], said: str) -> None:
    assert any(said in sentence for sentence in found(*arrivals)), found(*arrivals)


def test_what_may_come_again_may_and_nothing_else() -> None:
    findings = Findings()
    got = [Got(A1, "1"), Got(A1, "2"), Got(B1, "3"), Got(B1, "4")]
    balance("s", got, {A1, B1}, {A1, B1}, strict_order=True, findings=findings, again=frozenset({A1}))
    assert findings.sentences == ["sink s: 1 doubled: b#1"]


def test_of_a_source_of_states_only_the_last_must_arrive() -> None:
    ledger = Ledger(frozenset({"shelves"}))
    for source in ("shelves", "orders"):
        key = f"{source}-1"
        ledger.gave("atl1", source, "", [ledger.next_version(key), ledger.next_version(key)])
    must, may = ledger.expected()
    assert {str(r) for r in must} == {"shelves-1#2", "orders-1#1", "orders-1#2"}
    assert len(may) == 4


def test_a_seed_replays_and_every_kind_comes() -> None:
    assert plan(3, 500) == plan(3, 500)
    assert plan(3, 500) != plan(4, 500)
    assert {fault.kind for fault in plan(3, 500)} == {kind.name for kind in KINDS}


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(4096):
                        connection.sendall(data)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def client(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    return connection


def ends_at_once(proxy: Proxy) -> bool:
    """A new connection ends without a byte."""
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as refused:
            return refused.recv(100) == b""
    except ConnectionError:
        return True


def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_healed(echo: int) -> None:
    with Proxy(echo) as proxy:
        with client(proxy) as connection:
            proxy.cut()
            assert connection.recv(100) == b""
        assert ends_at_once(proxy)
        proxy.heal()
        client(proxy).close()


def test_a_reset_is_a_reset(echo: int) -> None:
    with Proxy(echo) as proxy, client(proxy) as connection:
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


@pytest.mark.parametrize("fault", ["stall", "up"])
def test_what_was_held_back_comes_after_a_stall_and_never_after_a_dead_direction(echo: int, fault: str) -> None:
    with Proxy(echo) as proxy, client(proxy) as connection:
        proxy.stall() if fault == "stall" else proxy.half_open("up")
        connection.sendall(b"later")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(30)
        proxy.heal()
        if fault == "stall":
            assert connection.recv(100) == b"later"
        else:
            with pytest.raises(ConnectionResetError):
                assert connection.recv(100) != b"later"


def test_a_limited_link_is_cut_in_the_middle_of_a_message(echo: int) -> None:
    with Proxy(echo) as proxy, client(proxy) as connection:
        proxy.limit(100)
        connection.sendall(b"x" * 200)
        received = b""
        while data := connection.recv(1000):
            received += data
        assert len(received) < 200
