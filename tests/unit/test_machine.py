"""The machine's digest and the key's code are the same at both ends, and of every release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert first == machine.machine_digest() == machine.machine_digest(ID.upper() + "\n")
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert ID not in first
    assert first != machine.machine_digest(ID[:-1] + "0")


def test_a_machine_id_is_read_from_its_file(tmp_path: Path) -> None:
    assert machine.linux_id({}, _machine(tmp_path, ID + "\n")) == ID


@pytest.mark.parametrize("text", ["", "\n", "uninitialized\n"])
def test_a_machine_without_an_id_has_no_digest(tmp_path: Path, text: str) -> None:
    assert machine.machine_digest(machine.linux_id({}, _machine(tmp_path, text))) == ""


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_inside_a_container_of_an_image_nothing_is_concluded_from_its_machine_id(tmp_path: Path, mark: str) -> None:
    assert machine.linux_id({}, _machine(tmp_path, ID, mark)) == ""


def test_inside_a_pod_nothing_is_concluded_from_its_machine_id(tmp_path: Path) -> None:
    assert machine.linux_id({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, _machine(tmp_path, ID)) == ""


def test_a_machine_is_told_by_a_digest_that_does_not_depend_on_how_its_id_is_written() -> None:
    digest = machine.machine_digest("4C4C4544-0042-3510-8052-B4C04F4E3132\n")
    assert digest == machine.machine_digest("4c4c4544-0042-3510-8052-b4c04f4e3132")
    assert digest == "2e2da55d02d8fc750ad9fc4f6e6894a8c59ba806a1c7e4c6eaeeee13ae1b6310"  # as stored by every release
    assert machine.is_machine_digest(digest)
    assert machine.machine_digest(" \n") == ""
    assert not machine.is_machine_digest("")


def test_the_code_of_a_key_is_fixed_for_ever() -> None:
    assert (machine.key_code(b""), machine.key_code(b"key")) == ("5YYPH-SGHS7", "RK9YT-F1Y2E")


@given(st.binary(max_size=120))
def test_a_code_is_two_groups_of_five_without_letters_that_look_alike(key: bytes) -> None:
    first, dash, second = machine.key_code(key).partition("-")
    assert (len(first), dash, len(second)) == (5, "-", 5)
    assert not set(first + second) & set("ILOU")


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
