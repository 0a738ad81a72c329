"""The certificate that the API shows: our own, made anew in time and with the authority, or somebody's files."""

from __future__ import annotations

import datetime as dt
import os
import socket
import ssl
import threading
import time
from pathlib import Path

from crossdock_controller.api import certificate
from crossdock_controller.authority import Authority
from crossdock_controller.commands import authorities
from support.estate import Estate


def test_a_certificate_of_ones_own_is_shown_and_read_again_when_it_changes(tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "public-ca")

    def write() -> None:
        pair = other.issue_server(["localhost", "127.0.0.1"], dt.datetime.now(dt.UTC))
        (tmp_path / "c.pem").write_bytes(pair.certificate)
        (tmp_path / "k.pem").write_bytes(pair.key)

    write()
    context = certificate.new_context()
    shown = certificate.FromFiles(context, tmp_path / "c.pem", tmp_path / "k.pem")
    assert shown.renew() is False
    first = _serial(context, tmp_path / "public-ca" / "ca.pem")
    write()
    os.utime(tmp_path / "c.pem", (1, 1))
    assert shown.renew() is True
    assert _serial(context, tmp_path / "public-ca" / "ca.pem") != first


def test_our_own_certificate_is_made_anew_before_it_ends_and_its_key_lies_in_no_file(tmp_path: Path) -> None:
    context = certificate.new_context()
    directory = tmp_path / "authority"
    shown = certificate.FromAuthority(context, directory, ["localhost"], life=dt.timedelta(days=30))
    first = _serial(context, directory / "ca.pem")
    assert shown.renew() is False
    shown._expires_us -= int(21 * 86_400e6)
    assert shown.renew() is True, "two thirds are over"
    assert _serial(context, directory / "ca.pem") != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["authority"]


def test_the_api_follows_each_step_of_a_change_of_the_authority(tmp_path: Path) -> None:
    estate = Estate(tmp_path / "data")
    try:
        directory = estate.data.authority
        old = (directory / "ca.pem").read_bytes()
        (tmp_path / "old.pem").write_bytes(old)
        context = certificate.new_context()
        shown = certificate.FromAuthority(context, directory, ["localhost"])
        now_us = time.time_ns() // 1000
        authorities.add(estate.data, now_us, "local:test")
        authorities.issue(estate.data, now_us, "local:test")
        authorities.switch(estate.data, now_us, "local:test", force=True)
        assert shown.renew() is True
        serving = Authority.open(directory)
        (tmp_path / "both.pem").write_bytes(serving.bundle)
        assert _serial(context, tmp_path / "both.pem")
        assert _serial(context, tmp_path / "old.pem"), "who knows the old one only is led on by its word"
        assert shown.renew() is False
    finally:
        estate.close()


def _serial(context: ssl.SSLContext, ca: Path) -> str:
    """The number of the certificate that *context* shows in a real handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            connection, _ = server.accept()
            with connection, context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        thread = threading.Thread(target=shake)
        thread.start()
        client = ssl.create_default_context(cafile=str(ca))
        with (
            socket.create_connection(server.getsockname(), 30) as raw,
            client.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            found = secured.getpeercert()
            secured.sendall(b"x")
        thread.join()
    assert found is not None
    return str(found["serialNumber"])
