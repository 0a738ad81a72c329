"""A disk that takes nothing more keeps no agent from its controller: only what is acknowledged frees it again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crossdock.v1.link_pb2 import Welcome
from crossdock_agent import identity as identities
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.trust import Trust


def full(path: Path, *_arguments: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_does_not_keep_an_agent_from_being_welcomed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = IdentityStore(tmp_path)
    store.save(
        Identity(
            agent="a1", site="atl1", link_address="centre:1", certificate=b"c", ca_bundle=b"ca", key_file="",
            issued_us=0, expires_us=1,
        ),
        b"-----BEGIN key",
    )  # fmt: skip
    trust = Trust(store, Problems())
    with monkeypatch.context() as patch:
        patch.setattr(identities, "write_atomic", full)
        trust.welcomed(Welcome(enrollment_address="centre:2"))
    assert store.current().enrollment_address == ""
    trust.welcomed(Welcome(enrollment_address="centre:2"))
    assert IdentityStore(tmp_path).current().enrollment_address == "centre:2"
