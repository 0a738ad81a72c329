"""A power cut between any two file operations of a new configuration's probation leaves one that runs, and never makes
one the last good that has not passed its hold."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock import siteconfig
from crossdock.siteconfig import SiteConfig, SourceConfig
from crossdock.v1.link_pb2 import ConfigOffer, ConfigStatus
from crossdock_agent import candidate as candidates
from crossdock_agent import configuration as module
from crossdock_agent import helper, hold
from crossdock_agent.candidate import MAX_CRASHES
from crossdock_agent.configuration import Configuration, read_last_good
from crossdock_agent.identity import Identity
from crossdock_agent.problems import Problems
from support.agents import eventually

HOLD = 0.05


class PowerCutError(BaseException):
    """Nothing handles it, as nothing handles a power cut."""


class Power:
    """Cut before the file operation of number *at* (from 0); *done* counts those that happened."""

    def __init__(self, at: int | None) -> None:
        self.at, self.done = at, 0

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: object, **more: object) -> None:
            if self.done == self.at:
                raise PowerCutError
            self.done += 1
            function(*arguments, **more)

        return guarded


class Pumps:
    """Runs what it is given; *fault* is what speaks against revision 2."""

    def __init__(self) -> None:
        self.running = 0
        self.fault = ""

    def apply(self, config: SiteConfig) -> None:
        self.running = config.revision

    resume = apply

    def misconfigured(self, _names: frozenset[str]) -> list[str]:
        return [self.fault] if self.fault and self.running == 2 else []


class Identities:
    def current(self) -> Identity:
        return Identity(
            agent="a", site="s", link_address="", certificate=b"", ca_bundle=b"", key_file="", issued_us=0, expires_us=1
        )


def offer(revision: int) -> ConfigOffer:
    sources = [SourceConfig(name="wms", kind="file_drop", settings={"directory": f"/{revision}"})]
    data = siteconfig.encode(SiteConfig(site="s", revision=revision, sources=sources))
    return ConfigOffer(revision=revision, hash=siteconfig.digest(data), config=data)


def process(state: Path, monkeypatch: pytest.MonkeyPatch, power: Power) -> tuple[Configuration, Pumps]:
    monkeypatch.undo()
    monkeypatch.setattr(helper, "verify_config", lambda *_: None)
    monkeypatch.setattr(candidates, "write_atomic", power.guard(candidates.write_atomic))
    monkeypatch.setattr(module, "write_atomic", power.guard(module.write_atomic))
    unlink = power.guard(candidates.Probation._forget)
    monkeypatch.setattr(candidates.Probation, "_forget", staticmethod(unlink))
    pumps = Pumps()
    state.mkdir(exist_ok=True)
    configuration = Configuration(
        state / "last-good.json", Identities(), pumps, Problems(), hold_seconds=HOLD,  # type: ignore[arg-type]
    )  # fmt: skip
    return configuration, pumps


def kept(state: Path) -> int:
    found = read_last_good(state / "last-good.json")
    return found.revision if found is not None else 0


def good(state: Path, monkeypatch: pytest.MonkeyPatch, revision: int) -> None:
    configuration, _ = process(state, monkeypatch, Power(None))
    configuration.resume()
    assert configuration.offer(offer(revision)).state == "applied"
    eventually(lambda: kept(state) == revision, "it has passed")
    configuration.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is the power cut
@pytest.mark.parametrize("fault", ["", "column SHIP_TS is not there"])
def test_a_power_cut_at_any_file_operation_of_a_probation_leaves_what_runs_and_what_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    whole = _begin(tmp_path / "whole", monkeypatch, Power(None), fault)
    assert whole >= 4
    for at in range(whole):
        state = tmp_path / str(at)
        _begin(state, monkeypatch, Power(at), fault)
        assert kept(state) in ({1} if fault else {1, 2}), f"cut before operation {at}"
        configuration, pumps = process(state, monkeypatch, Power(None))
        configuration.resume()
        assert pumps.running in {1, 2}, f"cut before operation {at}"
        assert configuration.revision == pumps.running
        configuration.offer(offer(3))
        eventually(lambda s=state: kept(s) == 3, f"another revision is taken, cut before operation {at}")  # type: ignore[misc]
        configuration.stop()
        assert pumps.running == 3


def _begin(state: Path, monkeypatch: pytest.MonkeyPatch, power: Power, fault: str) -> int:
    """Revision 1 is good, 2 is offered until it has passed, failed, or the power went; file operations done."""
    good(state, monkeypatch, 1)
    configuration, pumps = process(state, monkeypatch, power)
    try:
        configuration.resume()
        pumps.fault = fault
        configuration.offer(offer(2))
    except PowerCutError:
        return power.done
    hold = configuration._hold
    if hold is not None:
        hold._thread.join(30)
    return power.done


def test_three_power_cuts_within_the_hold_bring_the_last_good_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    good(state, monkeypatch, 1)
    running = []
    for _ in range(MAX_CRASHES + 1):
        configuration, pumps = process(state, monkeypatch, Power(None))
        configuration._hold_seconds = 3600.0
        configuration.resume()
        offered = configuration.offer(offer(2))
        running.append((pumps.running, offered.state))
        if configuration._hold is not None:
            configuration._hold.cancel()  # the power goes: nothing is noted
    assert running == [(2, "applied")] * MAX_CRASHES + [(1, "failed")]
    assert kept(state) == 1


def test_an_offer_that_a_full_disk_refuses_does_not_end_the_hold_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "verify_config", lambda *_: None)
    pumps = Pumps()
    configuration = Configuration(
        tmp_path / "last-good.json", Identities(), pumps, Problems(), hold_seconds=600,  # type: ignore[arg-type]
    )  # fmt: skip
    failed: list[ConfigStatus] = []
    configuration.on_status = failed.append
    assert configuration.offer(offer(2)).state == "applied"
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "write_atomic", _full)
        assert configuration.offer(offer(3)).state == "failed"
    pumps.fault = "column SHIP_TS is not there"
    eventually(lambda: [status.revision for status in failed] == [2], "revision 2 is watched still")
    configuration.stop()


def test_what_a_full_disk_did_not_keep_at_the_end_of_its_hold_is_kept_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, _ = process(tmp_path, monkeypatch, Power(None))
    monkeypatch.setattr(hold, "AGAIN_SECONDS", 0.05)
    tried: list[Path] = []

    def full(path: Path, *_arguments: object, **_more: object) -> None:
        tried.append(path)
        _full(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomic", full)
        assert configuration.offer(offer(1)).state == "applied"
        eventually(lambda: bool(tried), "it is past its hold, and the disk is full")
    eventually(lambda: kept(tmp_path) == 1, "it is kept")
    eventually(lambda: not configuration.on_probation, "its probation is over")
    configuration.stop()


def _full(path: Path, *_arguments: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))
