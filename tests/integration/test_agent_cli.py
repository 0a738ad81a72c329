"""The commands a person types at the site, as real processes."""

import base64
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from crossdock.errors import ConfigError, ControllerUnavailable, Refused
from crossdock_agent import crypto, helper
from crossdock_agent.enrolment import enroll
from crossdock_agent.identity import IdentityStore, parse_token
from support.agents import eventually, site_config
from support.controller import FakeController
from support.pki import TestAuthority
from support.sources import config

AGENT = [sys.executable, "-m", "crossdock_agent"]


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


def token(controller: FakeController, secret: str = "token-1", ca: bytes | None = None) -> str:
    ca_text = base64.b64encode(controller.authority.der if ca is None else ca).decode()
    fields = {"a": f"127.0.0.1:{controller.enrollment_port}", "c": ca_text, "t": secret}
    return "cd1_" + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def agent(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGENT, *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def test_enrol_run_status_check_and_stop(controller: FakeController, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = agent("enroll", "--token", token(controller), "--state", state)
    assert done.returncode == 0, done.stderr
    assert "enrolled as agent atl1 at site atl1" in done.stdout
    assert agent("status", "--state", state).returncode == 1

    before = agent("check", "--json", "--state", state)
    findings = {f["name"]: f for f in json.loads(before.stdout)}
    assert findings["controller"]["ok"]
    assert findings["clock"]["ok"]
    assert findings["certificate"]["ok"]
    assert not findings["configuration"]["ok"]
    assert "crossdock apply" in findings["configuration"]["hint"]
    assert before.returncode == 1

    controller.offer(site_config(1, stop_all=True), 1)
    process = subprocess.Popen([*AGENT, "run", "--state", str(state)], stderr=subprocess.PIPE)
    try:
        controller.wait(lambda: (1, "applied") in controller.statuses(), "the configuration is applied")
        eventually(
            lambda: "revision 1" in (said := agent("status", "--state", state).stdout) and ": connected" in said,
            "status shows it",
        )
        running = json.loads(agent("status", "--json", "--state", state).stdout)
        assert running["running"]
        assert running["status"]["revision"] == 1
        process_now = psutil.Process(process.pid)
        assert os.name == "nt" or process_now.nice() >= 5
        before_cpu = sum(process_now.cpu_times()[:2])
        threading.Event().wait(4)  # what is measured is doing nothing
        assert (sum(process_now.cpu_times()[:2]) - before_cpu) / 4 < 0.03
        assert process_now.memory_info().rss < 75 * 2**20
        after = agent("check", "--state", state)
        assert after.returncode == 0, after.stdout
        assert "the running agent" in after.stdout
        heavy = {"cryptography", "sqlite_utils", "alembic", "pydantic", "watchdog"}
        loaded = {
            part for m in psutil.Process(process.pid).memory_maps() for part in Path(m.path).parts if part in heavy
        }
        assert loaded == set()
    finally:
        process.send_signal(signal.SIGTERM) if os.name != "nt" else process.terminate()
        _, log = process.communicate(timeout=60)
    assert os.name == "nt" or process.returncode == 0, log.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "--state", "STATE"], 1, "Next: crossdock-agent enroll"),
        (["run", "--state=STATE"], 1, "Next: crossdock-agent enroll"),
        (["run", "--config", "STATE/none.toml"], 1, "cannot be read"),
        (["run", "--stat", "STATE"], 2, "No such option"),
        (["run", "--state"], 2, "requires an argument"),
        (["run", "--help"], 0, "Run the agent until"),
        (["--version"], 0, "crossdock-agent"),
    ],
)
def test_run_says_what_is_wrong_and_what_to_do(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = agent(*[a.replace("STATE", str(tmp_path)) for a in arguments])
    assert said in done.stdout + done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_check_says_the_next_step_for_each_failure(controller: FakeController, tmp_path: Path) -> None:
    state = tmp_path / "state"
    nothing = agent("check", "--state", state)
    assert nothing.returncode == 1
    assert "FAIL  identity" in nothing.stdout
    assert "crossdock-agent enroll" in nothing.stdout
    controller.identity(state)
    controller.stop()
    gone = agent("check", "--state", state)
    assert "FAIL  controller" in gone.stdout
    assert "is not available" in gone.stdout
    assert "next: is it running, and" in gone.stdout


def test_check_reports_every_source_of_the_last_good_configuration(tmp_path: Path) -> None:
    from crossdock import siteconfig
    from crossdock_agent.check import check
    from crossdock_agent.configuration import LastGood
    from crossdock_agent.files import private_directory, write_atomic
    from crossdock_agent.settings import Settings
    from support import sources

    sources.install()
    settings = Settings(state=str(tmp_path / "state"))
    private_directory(settings.directory)
    data = site_config(4, config("wms"), config("erp", no_such=1))
    kept = LastGood(4, siteconfig.digest(data), data)
    write_atomic(settings.config_path, msgspec.json.encode(kept))
    findings = {f.name: f for f in check(settings)}
    assert findings["configuration"].ok
    assert findings["wms: tape"].ok
    assert not findings["erp"].ok
    assert "no_such" in findings["erp"].detail
    assert findings["outbox"].ok
    assert "limits" not in findings


@pytest.mark.parametrize(("zone", "ok"), [("Europe/Berlin", True), ("Mars/Olympus", False)])
def test_check_says_what_the_agent_may_use_now_and_finds_a_zone_that_is_not_known_here(
    tmp_path: Path, zone: str, ok: bool
) -> None:
    from crossdock import limits, siteconfig
    from crossdock_agent.check import check
    from crossdock_agent.configuration import LastGood
    from crossdock_agent.files import private_directory, write_atomic
    from crossdock_agent.settings import Settings
    from support import sources

    sources.install()
    settings = Settings(state=str(tmp_path / "state"))
    private_directory(settings.directory)
    always = tuple(limits.BandwidthWindow(hours=f"{days} 00:00-24:00", limit=9000) for days in ("mon-fri", "sat,sun"))
    data = site_config(
        4, config("wms"), zone=zone, limits=limits.Limits(bandwidth=limits.Bandwidth(windows=always), cpu_percent=25)
    )
    write_atomic(settings.config_path, msgspec.json.encode(LastGood(4, siteconfig.digest(data), data)))
    finding = next(f for f in check(settings) if f.name == "limits")
    assert finding.ok is ok
    assert ("9 KB/s" in finding.detail and "cpu 25 % of a core" in finding.detail) is ok
    assert ("'Mars/Olympus'" in finding.detail) is not ok


def test_a_token_works_once_and_a_failed_enrolment_leaves_nothing(controller: FakeController, tmp_path: Path) -> None:
    first = enroll(token(controller), tmp_path / "one")
    assert first.agent == "atl1"
    with pytest.raises(Refused, match="already used"):
        enroll(token(controller), tmp_path / "two")
    assert not (tmp_path / "two" / "identity").exists()


def test_a_controller_that_the_token_does_not_name_is_not_trusted(controller: FakeController, tmp_path: Path) -> None:
    with pytest.raises(ControllerUnavailable):
        enroll(token(controller, ca=TestAuthority().der), tmp_path)
    assert "token-1" in controller.tokens  # the secret never left


@pytest.mark.parametrize("text", ["", "cd1_", "cd1_%%%", "cd1_e30", "abc", "cd2_e30"])
def test_what_is_not_a_join_token_is_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(ConfigError, match="crossdock token create"):
        parse_token(text)


def test_the_key_is_the_owners_alone_and_the_old_pair_survives_a_crash_while_replacing(
    controller: FakeController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossdock_agent import identity as module

    store = controller.identity(tmp_path)
    before = store.current()
    key = store.key()
    if os.name != "nt":
        assert (tmp_path / "identity" / before.key_file).stat().st_mode & 0o077 == 0

    def power_cut(path: Path, _data: bytes, **_more: object) -> None:
        if path.name == "identity.json":
            raise OSError("power cut")
        write(path, _data, **_more)

    write = module.write_atomic
    monkeypatch.setattr(module, "write_atomic", power_cut)
    pair = controller.authority.agent("atl1", dt.timedelta(hours=9))
    with pytest.raises(OSError, match="power cut"):
        store.save(msgspec.structs.replace(before, certificate=pair.certificate), pair.key)
    again = IdentityStore(tmp_path)
    assert again.current() == before
    assert again.key() == key


def test_helper_processes_do_the_heavy_work_and_hand_errors_back(controller: FakeController) -> None:
    key, csr = helper.new_key_and_request()
    certificate = controller.authority.for_request(csr, "atl1", dt.timedelta(hours=1))
    agent_id, expires_us = helper.certificate_facts(certificate, key)
    assert agent_id == "atl1"
    assert expires_us > 0
    other, _ = crypto.new_key_and_request()
    with pytest.raises(Refused, match="another key"):
        helper.certificate_facts(certificate, other)
    data = b"config"
    helper.verify_config(data, controller.authority.sign(data), controller.authority.bundle)
    with pytest.raises(ConfigError, match="not signed"):
        helper.verify_config(b"other", controller.authority.sign(data), controller.authority.bundle)
