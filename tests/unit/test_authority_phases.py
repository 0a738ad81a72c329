"""Replacing a certificate authority: each phase alone, in every order, and cut off at every step on the disk."""

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ConfigError, Corrupt
from crossdock_controller.authority import Authority, files, states
from crossdock_controller.authority.states import State
from support.authorities import old_release
from support.gateway import csr_of

NOW = dt.datetime.now(dt.UTC)
STEPS = ("add", "issue", "switch", "retire")


def take(authority: Authority, step: str) -> None:
    if step == "add":
        authority.added(*authority.prepared(NOW))
    elif step == "issue":
        authority.issuing()
    elif step == "switch":
        authority.switched()
    else:
        oldest = next(s for s in authority.states if s.trusted)
        authority.retired(oldest.fingerprint, int(NOW.timestamp() * 1e6))


def words(authority: Authority) -> list[str]:
    return [s.word for s in authority.states]


def test_the_four_phases_move_one_duty_at_a_time(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    old = authority.fingerprint
    assert words(authority) == ["issuing, serving"]
    take(authority, "add")
    new = authority.states[1].fingerprint
    assert words(authority) == ["issuing, serving", "trusted"]
    assert authority.bundle_fingerprints == (old, new)
    assert (authority.issuer, authority.fingerprint) == (old, old)
    take(authority, "issue")
    assert words(authority) == ["serving", "issuing"]
    assert (authority.issuer, authority.fingerprint) == (new, old)
    take(authority, "switch")
    assert words(authority) == ["trusted", "issuing, serving"]
    assert authority.anchor == old, "a join token and an old agent hold on to the oldest"
    take(authority, "retire")
    assert words(authority) == ["retired", "issuing, serving"]
    assert authority.bundle_fingerprints == (new,)
    assert authority.anchor == new
    assert Authority.open(tmp_path).states == authority.states, "it is all on the disk"
    assert not (tmp_path / "ca.key").exists(), "the key of a retired authority is gone"


@given(st.lists(st.sampled_from(["add", "issue", "switch", "retire oldest", "retire newest"]), max_size=25))
def test_whatever_the_order_one_issues_one_serves_and_both_are_trusted(steps: list[str]) -> None:
    found = states.first("0" * 64, "ca", 1)
    refusals: list[str] = []
    for number, step in enumerate(steps, 1):
        trusted = [s for s in found if s.trusted]
        crosses = {s.fingerprint: "cross" for s in trusted}
        new = State(f"{number:064x}", f"ca-{number}", number, crosses=crosses)
        before = found
        try:
            if step == "add":
                found = states.added(found, new)
            elif step == "issue":
                found = states.issued(found)
            elif step == "switch":
                found = states.switched(found)
            else:
                found = states.retired(found, trusted[0 if "oldest" in step else -1].fingerprint, number)
        except ConfigError as error:
            refusals.append(error.hint)
            assert found == before
        assert states.check(found) == ""
        serving = states.serving(found)
        older = [s for s in found if s.trusted and s.made_us < serving.made_us]
        assert all(s.fingerprint in serving.crosses for s in older), "every older one still vouches for it"
        assert not any(k not in {s.fingerprint for s in found if s.trusted} for s in found for k in s.crosses)
    assert all(refusals), "each refusal names the next step"


def test_what_is_in_use_cannot_retire_and_the_refusal_names_the_next_phase(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    for step, expected in (("add", "ca add"), ("issue", "ca issue"), ("switch", "ca switch")):
        with pytest.raises(ConfigError, match=f"crossdock {expected}"):
            take(authority, "retire")
        take(authority, step)
    with pytest.raises(ConfigError, match="serves already"):
        take(authority, "switch")
    take(authority, "retire")
    with pytest.raises(ConfigError, match="no authority begins"):
        states.find(authority.states, "ffff")
    with pytest.raises(ConfigError, match="is retired"):
        authority.retired(authority.states[0].fingerprint, 1)


def test_a_second_replacement_waits_for_the_first_or_gives_it_up(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    take(authority, "add")
    given_up = authority.states[1].fingerprint
    with pytest.raises(ConfigError, match="give it up: crossdock ca retire"):
        take(authority, "add")
    authority.retired(given_up, 1)
    take(authority, "add")
    assert words(authority) == ["issuing, serving", "retired", "trusted"]


def test_a_cross_certificate_is_no_longer_than_either_and_one_of_an_old_release_makes_none(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    signer, state = authority.prepared(NOW, dt.timedelta(days=20))
    cross = x509.load_pem_x509_certificate(state.crosses[authority.fingerprint].encode())
    assert cross.not_valid_after_utc == signer.ends
    assert cross.subject == signer.certificate.subject
    assert cross.public_key() == signer.certificate.public_key()
    old_release(tmp_path / "old")
    _, unvouched = Authority.open(tmp_path / "old").prepared(NOW)
    assert unvouched.crosses == {}


def test_an_agents_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    authority.added(*authority.prepared(NOW, dt.timedelta(hours=3)))
    authority.issuing()
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_agent(csr, "atl1", dt.timedelta(hours=24), NOW)
    assert issued.expires_us == int(authority.ends()[authority.issuer].timestamp() * 1e6)
    assert issued.authority == authority.issuer


def test_a_configuration_is_signed_by_an_authority_that_the_agent_trusts(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    old = authority.fingerprint
    for step in ("add", "issue", "switch"):
        take(authority, step)
    new = authority.fingerprint
    assert authority.signer_for(()) == old, "of an old release nothing is known: it has the oldest"
    assert authority.signer_for({old}) == old
    assert authority.signer_for({old, new}) == new
    assert authority.signer_for({new}) == new
    assert authority.signer_for({"of another controller"}) == old


# --- on the disk


class Died(BaseException):
    """The process ends here: nothing that follows in it runs."""


def dying(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> list[str]:
    """Die before (or right *after*) file operation number *at*; the operations seen so far."""
    seen: list[str] = []

    def guarded(owner: Any, name: str, shown: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(f"{name} {shown(*args)}")
            mine = len(seen)
            if mine == at and not after:
                raise Died
            result = real(*args, **kwargs)
            if mine == at and after:
                raise Died
            return result

        monkeypatch.setattr(owner, name, call)

    guarded(files.os, "open", lambda path, *_: Path(path).name)
    guarded(files.os, "fsync", lambda _descriptor: "")
    guarded(files, "_replace", lambda _temporary, path: path.name)
    guarded(files, "sync_directory", lambda path: path.name)
    guarded(Path, "unlink", lambda path, *_: path.name)
    return seen


def prepared(directory: Path, step: str) -> Authority:
    authority = Authority.open(directory)
    for earlier in STEPS[: STEPS.index(step)]:
        take(authority, earlier)
    return authority


def usable(authority: Authority) -> None:
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_agent(csr, "atl1", dt.timedelta(hours=1), NOW)
    assert authority.maker_of(x509.load_pem_x509_certificate(issued.certificate)) == authority.issuer
    server = x509.load_pem_x509_certificates(authority.issue_server(["localhost"], NOW).certificate)
    assert authority.maker_of(server[0]) == authority.fingerprint
    assert len(server) == (1 if authority.anchor == authority.fingerprint else 2)
    authority.join_token("here:1")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_phase_cut_off_at_any_file_operation_happened_or_did_not_and_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    outcomes: list[str] = []
    for at in range(1, 100):
        directory = tmp_path / f"{at}" / "authority"
        authority = prepared(directory, step)
        before = words(authority)
        with monkeypatch.context() as patch:
            seen = dying(patch, at, after=after)
            died = False
            try:
                take(authority, step)
            except Died:
                died = True
        if not died:
            assert len(seen) < at
            break
        found = Authority.open(directory)
        usable(found)
        outcomes.append("not" if words(found) == before else "done")
        if words(found) == before:
            take(found, step)
        else:
            assert len(words(found)) == len(before) + (step == "add")
        found = Authority.open(directory)
        usable(found)
        if step == "retire":
            files.sweep(directory, found.states)  # as the next step does
        left = {p.name for p in directory.iterdir()} - {"authorities.json.new"}
        assert left == set(files.names(directory)), seen
    assert outcomes == sorted(outcomes, reverse=True), "not done, not done, ... done, done"
    assert set(outcomes) == {"not", "done"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_first_start_cut_off_at_any_file_operation_is_made_up_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    for at in range(1, 100):
        with monkeypatch.context() as patch:
            dying(patch, at, after=after)
            try:
                Authority.open(tmp_path / str(at) / "authority")
            except Died:
                pass
            else:
                break
        usable(Authority.open(tmp_path / str(at) / "authority"))
    assert at > 5


def test_a_running_controller_takes_up_what_a_command_changed_and_keeps_what_it_has_when_that_is_damaged(
    tmp_path: Path,
) -> None:
    running, command = Authority.open(tmp_path), Authority.open(tmp_path)
    assert not running.refresh()
    take(command, "add")
    assert running.refresh()
    assert not running.refresh()
    assert running.states == command.states
    (tmp_path / "authorities.json").write_bytes(b"{}")
    with pytest.raises(Corrupt, match=r"authorities\.json"):
        running.refresh()
    assert running.states == command.states
    usable(running)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda found: (replace(found[0], issuing=False), found[1]), "0 authorities issue"),
        (lambda found: (replace(found[0], trusted=False), found[1]), "in use is not trusted"),
        (lambda found: (found[0], replace(found[1], fingerprint=found[0].fingerprint)), "named twice"),
    ],
)
def test_a_list_that_no_step_can_have_made_is_refused(tmp_path: Path, damage: Any, message: str) -> None:
    authority = Authority.open(tmp_path)
    take(authority, "add")
    files.write(tmp_path, damage(authority.states))
    with pytest.raises(Corrupt, match=message):
        Authority.open(tmp_path)


def test_a_list_of_a_later_release_is_not_guessed_at(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    (tmp_path / "authorities.json").write_text('{"format": 2, "authorities": []}')
    with pytest.raises(ConfigError, match="later release"):
        Authority.open(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="file modes")
def test_every_key_and_the_list_are_for_their_owner_only(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    take(authority, "add")
    assert {oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {"0o600"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_adds_belongs_to_the_account_of_the_service(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    authority = Authority.open(directory)
    for path in (directory, *directory.rglob("*")):
        os.chown(path, 12345, 12345)
    take(authority, "add")
    assert {path.stat().st_uid for path in directory.rglob("*")} == {12345}
