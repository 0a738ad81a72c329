"""Machines are told apart by a digest; a key has a short name for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossdock import machine, proof

ID = "0123456789abcdef0123456789abcdef"


def _machine(root: Path, text: str, *marks: str) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(text, "ascii")
    for mark in marks:
        (root / mark).parent.mkdir(parents=True, exist_ok=True)
        (root / mark).touch()
    return root


def test_the_digest_is_the_same_for_one_machine_and_says_nothing_of_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.VARIABLE, ID)
    first = machine.machine_digest()
    assert first == machine.machine_digest() == machine.digest_of(ID.upper() + "\n")
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert ID not in first
    assert first != machine.digest_of(ID[:-1] + "0")


def test_a_machine_id_is_read_from_its_file(tmp_path: Path) -> None:
    assert machine.linux_id({}, _machine(tmp_path, ID + "\n")) == ID


@pytest.mark.parametrize("text", ["", "\n", "uninitialized\n"])
def test_a_machine_without_an_id_has_no_digest(tmp_path: Path, text: str) -> None:
    assert machine.digest_of(machine.linux_id({}, _machine(tmp_path, text))) == ""


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_inside_a_container_of_an_image_nothing_is_concluded_from_its_machine_id(tmp_path: Path, mark: str) -> None:
    assert machine.linux_id({}, _machine(tmp_path, ID, mark)) == ""


def test_inside_a_pod_nothing_is_concluded_from_its_machine_id(tmp_path: Path) -> None:
    assert machine.linux_id({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, _machine(tmp_path, ID)) == ""


def test_a_short_code_is_read_out_without_confusion() -> None:
    codes = {machine.short_code(str(n).encode()) for n in range(1000)}
    assert len(codes) == 1000
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", code) for code in codes)


def test_a_proof_binds_request_certificate_machine_and_clock() -> None:
    given = (b"csr", b"certificate", "machine", 1)
    other = [
        (b"CSR", b"certificate", "machine", 1),
        (b"csr", b"Certificate", "machine", 1),
        (b"csr", b"certificate", "machinE", 1),
        (b"csr", b"certificate", "machine", 2),
    ]
    assert proof.reenroll_bytes(*given).startswith(b"crossdock reenroll 1\0")
    assert len({proof.reenroll_bytes(*each) for each in (given, *other)}) == 5
