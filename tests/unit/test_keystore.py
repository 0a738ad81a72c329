"""The private key lies on disk by the best means of the machine, and is readable by the service only."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import msgspec
import pytest

from crossdock.errors import ConfigError, Refused
from crossdock_agent import binding, crypto
from crossdock_agent.dpapi import LOCAL_MACHINE, UI_FORBIDDEN, Blob, Dpapi
from crossdock_agent.files import give_to_owner
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.keystore import CREDENTIAL, Keystore, scheme_of
from support.agents import helpers_in_process

KEY = b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers_in_process(monkeypatch)


class Windows:
    """CryptProtectData and its reverse as far as they matter here: by machine and entropy, and memory that is freed."""

    def __init__(self, machine: bytes) -> None:
        self.machine = machine
        self.flags: list[int] = []
        self.lent: dict[int, object] = {}

    def dpapi(self) -> Dpapi:
        return Dpapi(self.protect, self.unprotect, self.free)

    def protect(self, given, name, entropy, _r, _p, flags, made) -> int:  # type: ignore[no-untyped-def]
        self.flags.append(flags)
        return self._lend(self.machine + b"|" + _bytes(entropy) + b"|" + _bytes(given)[::-1], made)

    def unprotect(self, given, name, entropy, _r, _p, flags, made) -> int:  # type: ignore[no-untyped-def]
        self.flags.append(flags)
        start = self.machine + b"|" + _bytes(entropy) + b"|"
        data = _bytes(given)
        return self._lend(data[len(start) :][::-1], made) if data.startswith(start) else 0

    def free(self, pointer) -> None:  # type: ignore[no-untyped-def]
        del self.lent[ctypes.addressof(pointer.contents)]

    def _lend(self, data: bytes, made) -> int:  # type: ignore[no-untyped-def]
        buffer = ctypes.create_string_buffer(data, len(data))
        self.lent[ctypes.addressof(buffer)] = buffer
        made.contents.size = len(data)
        made.contents.data = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_char))
        return 1


def _bytes(pointer) -> bytes:  # type: ignore[no-untyped-def]
    blob: Blob = pointer.contents
    return ctypes.string_at(blob.data, blob.size)


def identity(**more: object) -> Identity:
    fields = {"agent": "atl1", "site": "atl1", "link_address": "127.0.0.1:1", "certificate": b"c", "ca_bundle": b"b"}
    return Identity(**{**fields, "key_file": "", "issued_us": 1, "expires_us": 2, **more})  # type: ignore[arg-type]


def credentials(directory: Path, secret: bytes = b"0123456789abcdef" * 2) -> Keystore:
    directory.mkdir(exist_ok=True)
    (directory / CREDENTIAL).write_bytes(secret)
    return Keystore({"CREDENTIALS_DIRECTORY": str(directory)}, windows=False)


def on_disk(state: Path) -> tuple[bytes, Path]:
    (path,) = (state / "identity").glob("key-*")
    return path.read_bytes(), path


def test_without_better_means_the_key_is_plain_and_the_owners_alone(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, Keystore({}, windows=False))
    store.save(identity(), KEY)
    stored, path = on_disk(tmp_path)
    assert stored == KEY
    assert os.name == "nt" or path.stat().st_mode & 0o177 == 0
    path.chmod(0o644)  # a backup tool, a careless chmod
    again = IdentityStore(tmp_path, Keystore({}, windows=False))
    assert again.key() == KEY
    assert os.name == "nt" or path.stat().st_mode & 0o177 == 0


def test_a_plain_key_is_wrapped_at_the_next_start_of_a_service_that_has_a_credential(tmp_path: Path) -> None:
    IdentityStore(tmp_path, Keystore({}, windows=False)).save(identity(), KEY)
    keystore = credentials(tmp_path / "credentials")
    store = IdentityStore(tmp_path, keystore)
    store.settle()
    stored, path = on_disk(tmp_path)
    assert scheme_of(stored, path) == "credential"
    assert b"PRIVATE KEY" not in stored
    assert b"MIGHAgEA" not in stored
    assert store.key() == KEY
    again = IdentityStore(tmp_path, keystore)
    again.settle()
    assert again.key() == KEY
    assert on_disk(tmp_path) == (stored, path)  # and it stays as it is


def test_a_wrapped_key_without_its_credential_says_what_to_do(tmp_path: Path) -> None:
    IdentityStore(tmp_path, credentials(tmp_path / "credentials")).save(identity(), KEY)
    before = on_disk(tmp_path)
    for environ in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}):
        with pytest.raises(ConfigError) as caught:
            IdentityStore(tmp_path, Keystore(environ, windows=False)).settle()
        assert CREDENTIAL in caught.value.message
        assert "systemctl start crossdock-agent" in caught.value.hint
        assert "LoadCredential" in caught.value.hint
    assert on_disk(tmp_path) == before


def test_a_wrapped_key_under_another_credential_or_changed_is_refused(tmp_path: Path) -> None:
    IdentityStore(tmp_path, credentials(tmp_path / "one")).save(identity(), KEY)
    with pytest.raises(ConfigError, match="not the one it was wrapped with"):
        IdentityStore(tmp_path, credentials(tmp_path / "two", b"x" * 32)).key()
    stored, path = on_disk(tmp_path)
    wrapped = msgspec.json.decode(stored)
    wrapped["data"] = wrapped["data"][:-8] + "AAAAAAA="
    path.write_bytes(msgspec.json.encode(wrapped))
    with pytest.raises(ConfigError, match="damaged"):
        IdentityStore(tmp_path, credentials(tmp_path / "one")).key()


def test_a_credential_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="5 bytes"):
        IdentityStore(tmp_path, credentials(tmp_path / "short", b"short")).save(identity(), KEY)


def test_a_crash_while_a_key_is_wrapped_leaves_one_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossdock_agent import identity as module

    class PowerCut(BaseException):
        pass

    IdentityStore(tmp_path, Keystore({}, windows=False)).save(identity(), KEY)
    keystore = credentials(tmp_path / "credentials")
    write = module.write_atomic

    def power_cut(path: Path, data: bytes, **more: bool) -> None:
        if path.name == "identity.json":
            raise PowerCut
        write(path, data, **more)

    monkeypatch.setattr(module, "write_atomic", power_cut)
    with pytest.raises(PowerCut):
        IdentityStore(tmp_path, keystore).settle()
    monkeypatch.undo()
    helpers_in_process(monkeypatch)
    again = IdentityStore(tmp_path, keystore)
    again.settle()
    assert again.key() == KEY
    assert scheme_of(*on_disk(tmp_path)) == "credential"


def test_on_windows_the_key_is_protected_for_the_machine_and_memory_is_given_back(tmp_path: Path) -> None:
    windows = Windows(b"machine one")
    keystore = Keystore({}, windows=True, dpapi=windows.dpapi)
    IdentityStore(tmp_path, Keystore({}, windows=False)).save(identity(), KEY)
    store = IdentityStore(tmp_path, keystore)
    store.settle()
    stored, path = on_disk(tmp_path)
    assert scheme_of(stored, path) == "dpapi"
    assert b"MIGHAgEA" not in stored
    assert IdentityStore(tmp_path, keystore).key() == KEY
    assert set(windows.flags) == {LOCAL_MACHINE | UI_FORBIDDEN}
    assert windows.lent == {}
    elsewhere = Keystore({}, windows=True, dpapi=Windows(b"machine two").dpapi)
    with pytest.raises(ConfigError, match="copied from elsewhere"):
        IdentityStore(tmp_path, elsewhere).key()
    with pytest.raises(ConfigError, match="part of Windows"):
        IdentityStore(tmp_path, Keystore({}, windows=False)).key()


def test_an_identity_of_an_earlier_release_is_read_and_one_of_a_later_release_too(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, Keystore({}, windows=False))
    store.save(identity(), KEY)
    path = tmp_path / "identity" / "identity.json"
    fields = msgspec.json.decode(path.read_bytes())
    assert set(fields) == {
        "agent", "site", "link_address", "certificate", "ca_bundle", "key_file", "issued_us", "expires_us",
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode({**fields, "of_tomorrow": [1]}))
    assert IdentityStore(tmp_path).current() == store.current()


def test_a_change_of_the_identity_is_durable_and_leaves_the_key(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, Keystore({}, windows=False))
    store.save(identity(), KEY)
    before = on_disk(tmp_path)
    store.update(ca_bundle=b"other")
    assert IdentityStore(tmp_path).current().ca_bundle == b"other"
    assert IdentityStore(tmp_path).current() == store.current()
    assert on_disk(tmp_path) == before


def test_an_identity_is_bound_to_the_machine_it_is_first_found_on_and_refused_on_another(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, Keystore({}, windows=False))
    store.save(identity(), KEY)
    binding.check(store, "")  # a container: nothing is concluded
    assert store.current().machine == ""
    binding.check(store, "one")
    assert IdentityStore(tmp_path).current().machine == "one"
    binding.check(store, "one")
    binding.check(store, "")
    with pytest.raises(Refused) as caught:
        binding.check(store, "two")
    assert "another machine" in caught.value.message
    assert "crossdock agents move atl1" in caught.value.hint
    assert IdentityStore(tmp_path).current().machine == "one"
    binding.bind(store, "two")  # a person says that it is so
    binding.check(IdentityStore(tmp_path), "two")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_enrolled_is_given_to_the_account_of_the_service(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    store = IdentityStore(tmp_path, Keystore({}, windows=False))
    store.save(identity(), KEY)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.touch()
    give_to_owner(tmp_path)
    assert {path.lstat().st_uid for path in tmp_path.rglob("*")} == {12345}
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "other name").hardlink_to(outside)
    give_to_owner(tmp_path)
    assert outside.stat().st_uid == 0
    outside.unlink()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "identity").iterdir())


def test_wrapping_is_different_each_time() -> None:
    first, second = (crypto.wrap_key(KEY, b"s" * 32) for _ in range(2))
    assert first != second
    assert crypto.unwrap_key(first, b"s" * 32) == crypto.unwrap_key(second, b"s" * 32) == KEY
    for cut in (0, 5, 20, 30):
        with pytest.raises(ConfigError):
            crypto.unwrap_key(first[:cut], b"s" * 32)
