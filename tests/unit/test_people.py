"""Users and tokens on a store, without a network."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from loguru import logger

from crossdock.errors import ConfigError, Refused
from crossdock_controller import apitokens, presence
from crossdock_controller.api.identify import Identifier, Unknown
from crossdock_controller.commands import people
from crossdock_controller.store import connection
from crossdock_controller.store import people as store
from support.pipeline import Box

HOUR_US = 3_600_000_000


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "data")
    yield box
    box.close()


def _admin(box: Box, name: str = "ada") -> None:
    people.add_user(box.data, name, "admin", ["all"], by="local:test", now_us=1)


def test_a_token_is_kept_as_a_hash_and_shown_nowhere_again(box: Box) -> None:
    _admin(box)
    made = people.create_token(box.data, "ada", 60.0, "laptop", by="local:test", now_us=1)
    assert made.token.startswith("cdt_")
    assert len(made.token) == 4 + 43, "256 bits"
    everything = b"".join(p.read_bytes() for p in box.data.root.iterdir() if p.is_file())
    assert made.token.encode() not in everything
    assert hashlib.sha256(made.token.encode()).digest() in everything
    (shown,) = people.list_tokens(box.data, 2)
    assert (shown.id, shown.name, shown.state, shown.last_used_us) == (made.id, "laptop", "valid", 0)


def test_the_last_who_may_do_everything_is_neither_removed_nor_disabled_nor_degraded(box: Box) -> None:
    _admin(box)
    people.add_user(box.data, "anna", "admin", ["region=us"], by="local:test", now_us=1)
    for attempt in (
        lambda: people.remove_user(box.data, "ada", by="local:test", now_us=2),
        lambda: people.disable_user(box.data, "ada", by="local:test", now_us=2),
        lambda: people.revoke_role(box.data, "ada", "admin", by="local:test", now_us=2),
    ):
        with pytest.raises(Refused, match="nobody would be left"):
            attempt()
    assert [u.name for u in people.list_users(box.data, 3) if not u.disabled] == ["ada", "anna"]
    _admin(box, "ben")
    people.remove_user(box.data, "ada", by="local:test", now_us=4)
    assert [u.name for u in people.list_users(box.data, 5)] == ["anna", "ben"]


def test_two_users_never_share_a_name_an_address_or_a_subject(box: Box) -> None:
    people.add_user(box.data, "anna", "viewer", ["all"], "Anna@Example.com", "sub-1", by="local:test", now_us=1)
    for name, email, subject in (("anna", "", ""), ("ben", "anna@example.COM", ""), ("ben", "", "sub-1")):
        with pytest.raises(Refused, match="there already"):
            people.add_user(box.data, name, "viewer", ["all"], email, subject, by="local:test", now_us=1)
    people.add_user(box.data, "ben", "viewer", ["all"], by="local:test", now_us=1)
    people.add_user(box.data, "carl", "viewer", ["all"], by="local:test", now_us=1)  # none given is shared by many


def test_a_subject_or_address_is_linked_changed_and_taken_away_but_never_shared(box: Box) -> None:
    for name in ("anna", "ben"):
        people.add_user(box.data, name, "viewer", ["all"], by="local:test", now_us=1)
    linked = people.link_user(box.data, "anna", "Anna@example.com", "sub-1", by="local:test", now_us=2)
    assert (linked.email, linked.oidc_subject) == ("anna@example.com", "sub-1")
    with pytest.raises(Refused, match="another user's"):
        people.link_user(box.data, "ben", None, "sub-1", by="local:test", now_us=2)
    kept = people.link_user(box.data, "anna", "", by="local:test", now_us=3)
    assert (kept.email, kept.oidc_subject) == ("", "sub-1")
    assert people.link_user(box.data, "ben", "anna@example.com", by="local:test", now_us=4).email == "anna@example.com"


@pytest.mark.parametrize("name", ["", "Anna", "-a", "a b", "a/b", "../a", "a" * 64, "user:a"])
def test_what_cannot_be_a_name_is_refused(box: Box, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a user's name"):
        people.add_user(box.data, name, "viewer", ["all"], by="local:test", now_us=1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 367 * 86_400.0])
def test_a_token_has_an_end_within_a_year(box: Box, seconds: float) -> None:
    _admin(box)
    with pytest.raises(ConfigError, match="a year at most"):
        people.create_token(box.data, "ada", seconds, by="local:test", now_us=1)


def test_granting_twice_and_disabling_twice_is_as_once(box: Box) -> None:
    people.add_user(box.data, "anna", "viewer", ["region=us"], by="local:test", now_us=1)
    for _ in range(2):
        user = people.grant_role(box.data, "anna", "operator", ["region=us"], by="local:test", now_us=1)
    assert [(g.role, g.on) for g in user.grants] == [("operator", "region=us"), ("viewer", "region=us")]
    for _ in range(2):
        assert people.disable_user(box.data, "anna", by="local:test", now_us=1).disabled
    with closing(connection.connect(box.data.state)) as db:
        assert db.execute("SELECT count(*) FROM audit WHERE action = 'users.disable'").fetchone() == (1,)
    assert not people.disable_user(box.data, "anna", enable=True, by="local:test", now_us=1).disabled


# --- who calls


def _token(box: Box, user: str, seconds: float = 3600.0) -> str:
    made = people.create_token(box.data, user, seconds, by="local:test", now_us=time.time_ns() // 1000)
    return made.token


def test_only_a_whole_valid_token_of_a_user_who_may_names_a_caller(box: Box) -> None:
    _admin(box)
    _admin(box, "ben")
    token = _token(box, "ada")
    identifier = Identifier(box.data)
    assert identifier.caller(f"Bearer {token}").user == "ada"
    assert identifier.caller(f"bearer  {token} ").user == "ada"
    other = apitokens.make()[0]
    for header, reason in (
        ("", "no token"), ("Bearer", "no token"), ("Bearer ", "no token"), (f"Basic {token}", "no token"),
        (f"Bearer {other}", "unknown token"), (f"Bearer {token[:-1]}", "unknown token"),
        (f"Bearer {token}x", "unknown token"), (f"Bearer cdt_{hashlib.sha256(token.encode()).hexdigest()}", "unknown"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "no token of ours"), ("Bearer " + "cdt_" + "a" * 9000, "no token of ours"),
        ("Bearer cdt_ä", "no token of ours"), ("Bearer cdt_' OR 1=1 --", "unknown token"),
    ):  # fmt: skip
        with pytest.raises(Unknown) as caught:
            identifier.caller(header)
        assert reason in caught.value.reason
        assert token not in str(caught.value)
    people.disable_user(box.data, "ada", by="local:test", now_us=1)
    with pytest.raises(Unknown, match="refused"):
        identifier.caller(f"Bearer {token}")
    people.disable_user(box.data, "ada", enable=True, by="local:test", now_us=1)
    people.revoke_token(box.data, people.list_tokens(box.data, 2)[0].id, by="local:test", now_us=1)
    with pytest.raises(Unknown) as caught:
        identifier.caller(f"Bearer {token}")
    assert "revoked" in caught.value.reason
    with pytest.raises(Unknown) as caught:
        identifier.caller(f"Bearer {_expired(box)}")
    assert "expired" in caught.value.reason


def _expired(box: Box) -> str:
    return people.create_token(box.data, "ada", 1.0, by="local:test", now_us=1).token


def test_the_last_use_of_a_token_is_noted_once_in_a_while(box: Box) -> None:
    _admin(box)
    token = _token(box, "ada")
    identifier = Identifier(box.data)
    identifier.caller(f"Bearer {token}")
    first = people.list_tokens(box.data, 2)[0].last_used_us
    assert first > 0
    identifier.caller(f"Bearer {token}")
    assert people.list_tokens(box.data, 2)[0].last_used_us == first
    with connection.transaction(box.db):
        store.touch_token(box.db, people.list_tokens(box.data, 2)[0].id, first - HOUR_US)
    identifier.caller(f"Bearer {token}")
    assert people.list_tokens(box.data, 2)[0].last_used_us > first - HOUR_US


# --- the first admin


def test_the_first_start_makes_one_admin_whose_token_lies_in_a_file_until_it_is_used(box: Box) -> None:
    logged = io.StringIO()
    sink = logger.add(logged, level="TRACE")
    try:
        now = time.time_ns() // 1000
        presence.first_admin(box.data, now, terminal=lambda: False)
        token = box.data.first_token.read_text().strip()
        presence.first_admin(box.data, now, terminal=lambda: False)
    finally:
        logger.remove(sink)
    assert token not in logged.getvalue()
    assert str(box.data.first_token) in logged.getvalue()
    assert box.data.first_token.read_text().strip() == token, "the second start makes no other"
    if os.name == "posix":
        assert stat.S_IMODE(box.data.first_token.stat().st_mode) == 0o600
    assert [(u.name, [g.role for g in u.grants]) for u in people.list_users(box.data, 1)] == [("admin", ["admin"])]
    assert Identifier(box.data).caller(f"Bearer {token}").user == "admin"
    assert not box.data.first_token.exists()


def test_on_a_terminal_the_token_is_shown_once_and_lies_in_no_file(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time_ns() // 1000
    presence.first_admin(box.data, now, terminal=lambda: True)
    shown = capsys.readouterr().err
    token = next(word for word in shown.split() if word.startswith("cdt_"))
    assert not box.data.first_token.exists()
    assert Identifier(box.data).caller(f"Bearer {token}").user == "admin"
    presence.first_admin(box.data, now, terminal=lambda: True)
    assert capsys.readouterr().err == ""


def test_a_store_whose_users_were_made_by_hand_gets_no_first_admin(box: Box) -> None:
    people.add_user(box.data, "anna", "viewer", ["all"], by="local:test", now_us=1)
    presence.first_admin(box.data, 1, terminal=lambda: False)
    assert [u.name for u in people.list_users(box.data, 1)] == ["anna"]
    assert not box.data.first_token.exists()
