"""A disk that takes nothing more does not keep an agent from its start: what can be stored later is stored later."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crossdock_agent import binding
from crossdock_agent import identity as identities
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.keystore import Keystore, Scheme

KEY = b"-----BEGIN key"


class Wrapping(Keystore):
    """Stores a key by another scheme than before."""

    def preferred(self) -> Scheme:
        return "dpapi"

    def seal(self, key: bytes) -> bytes:
        return b'{"crossdock_key":1,"scheme":"dpapi","data":""}'


def full(path: Path, *_arguments: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.fixture
def enrolled(tmp_path: Path) -> Path:
    identity = Identity(
        agent="a1", site="atl1", link_address="centre:1", certificate=b"c", ca_bundle=b"ca", key_file="",
        issued_us=0, expires_us=1,
    )  # fmt: skip
    IdentityStore(tmp_path, Keystore({}, windows=False)).save(identity, KEY)
    return tmp_path


def test_an_identity_that_cannot_be_bound_on_a_full_disk_is_bound_at_a_later_start(
    enrolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = IdentityStore(enrolled)
    with monkeypatch.context() as patch:
        patch.setattr(identities, "write_atomic", full)
        binding.check(store, "m" * 64)
    binding.check(store, "m" * 64)
    assert IdentityStore(enrolled).current().machine == "m" * 64


def test_a_key_that_cannot_be_stored_anew_on_a_full_disk_is_used_as_it_lies(
    enrolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = IdentityStore(enrolled, Wrapping())
    with monkeypatch.context() as patch:
        patch.setattr(identities, "write_atomic", full)
        store.settle()
    assert store.key() == KEY
    assert store.scheme() == "plain"
    store.settle()
    assert store.scheme() == "dpapi"
