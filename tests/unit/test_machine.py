"""The machine's digest and the key's code are the same at both ends, and of every release."""

from hypothesis import given
from hypothesis import strategies as st

from crossdock.machine import is_machine_digest, key_code, machine_digest


def test_a_machine_is_told_by_a_digest_that_does_not_depend_on_how_its_id_is_written() -> None:
    digest = machine_digest("4C4C4544-0042-3510-8052-B4C04F4E3132\n")
    assert digest == machine_digest("4c4c4544-0042-3510-8052-b4c04f4e3132")
    assert digest == "2e2da55d02d8fc750ad9fc4f6e6894a8c59ba806a1c7e4c6eaeeee13ae1b6310"  # as stored by every release
    assert is_machine_digest(digest)
    assert machine_digest(" \n") == ""
    assert not is_machine_digest("")


def test_the_code_of_a_key_is_fixed_for_ever() -> None:
    assert (key_code(b""), key_code(b"key")) == ("5YYPH-SGHS7", "RK9YT-F1Y2E")


@given(st.binary(max_size=120))
def test_a_code_is_two_groups_of_five_without_letters_that_look_alike(key: bytes) -> None:
    first, dash, second = key_code(key).partition("-")
    assert (len(first), dash, len(second)) == (5, "-", 5)
    assert not set(first + second) & set("ILOU")
