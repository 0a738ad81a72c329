"""The SFTP sink against a real OpenSSH server: whom it speaks to, and what is there after a crash at any step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crossdock.errors import ConfigError, CrossdockError, SinkUnavailable
from crossdock_controller.sinks.sftp import SftpSettings, SftpSink
from crossdock_controller.sinks.sftp_remote import Remote
from support.sftp import SshServer, ssh_server  # noqa: F401 - a fixture
from support.sink_rigs import SftpRig, build, thing


@pytest.fixture
def rig(tmp_path: Path, ssh_server: SshServer) -> SftpRig:  # noqa: F811
    return SftpRig(tmp_path, ssh_server)


class Died(BaseException):
    """The process is gone: nothing after it runs, nothing is tidied up."""


def names(rig: SftpRig) -> list[str]:
    return sorted(path.name for path in rig.directory.iterdir())


def test_a_server_with_another_host_key_is_not_spoken_to(rig: SftpRig) -> None:
    rig.settings = {**rig.settings, "host_key": "SHA256:" + "A" * 43}
    sink = rig.make()
    with pytest.raises(SinkUnavailable, match=r"(?i)host key"):
        sink.write([thing(1, "A")])
    sink.close()
    assert names(rig) == []


def test_an_unknown_key_of_ours_is_told(rig: SftpRig) -> None:
    import asyncssh

    rig.secrets = {"secret:key": asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()}
    sink = rig.make()
    with pytest.raises(SinkUnavailable, match=r"(?i)permission denied"):
        sink.write([thing(1, "A")])
    sink.close()
    rig.secrets = {"secret:key": "no key at all"}
    with pytest.raises(ConfigError, match="no private key that can be read"):
        rig.make()


def test_a_folder_that_is_not_there_is_told(rig: SftpRig) -> None:
    rig.settings = {**rig.settings, "directory": str(rig.directory / "missing")}
    sink = rig.make()
    with pytest.raises(CrossdockError, match="missing"):
        sink.check()
    with pytest.raises(SinkUnavailable, match="missing"):
        sink.write([thing(1, "A")])
    sink.close()


def test_a_marker_follows_each_file(rig: SftpRig) -> None:
    rig.settings = {**rig.settings, "marker": ".done", "name": "orders-{number}.csv",
                    "format": {"kind": "csv", "columns": {"NO": "number", "TEXT": "text"}}}  # fmt: skip
    sink = rig.make()
    sink.write([thing(1, "A", "a,b"), thing(2, "B", 'say "x"')])
    sink.close()
    assert names(rig) == ["orders-000000000001.csv", "orders-000000000001.csv.done"]
    assert (rig.directory / "orders-000000000001.csv").read_bytes() == b'NO,TEXT\nA,"a,b"\nB,"say ""x"""\n'


STEPS = ["put", "put done", "rename", "rename done"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("taken", [False, True], ids=["", "taken by its consumer"])
def test_a_crash_at_any_step_leaves_one_file(
    rig: SftpRig, monkeypatch: pytest.MonkeyPatch, step: str, taken: bool
) -> None:
    sink, consumed = rig.make(), []

    def dying(name: str) -> Any:
        real = getattr(Remote, name)

        def call(self: Remote, *arguments: Any) -> None:
            if step == name:
                raise Died
            real(self, *arguments)
            if step == f"{name} done":
                raise Died

        return call

    def take() -> None:
        for path in sorted(rig.directory.glob("finance-*.jsonl")):
            consumed.extend(json.loads(line)["key"] for line in path.read_text("utf-8").splitlines())
            path.unlink()

    with monkeypatch.context() as patch:
        for name in ("put", "rename"):
            patch.setattr(Remote, name, dying(name))
        with pytest.raises(Died):
            sink.write([thing(1, "A"), thing(2, "B")])
    sink.close()
    if taken:
        take()
    again = rig.make()
    assert {v.outcome for v in again.write([thing(1, "A"), thing(2, "B"), thing(3, "C")])} == {"done"}
    again.close()
    take()
    assert consumed == ["A", "B", "C"]
    assert names(rig) == []
    assert not [*(rig.base / "sinks" / "finance").glob("*.spool"), *(rig.base / "sinks" / "finance").glob("*.sent")]


def test_a_ledger_that_was_lost_uses_no_name_twice(rig: SftpRig) -> None:
    sink = rig.make()
    sink.write([thing(1, "A")])
    sink.close()
    (rig.base / "sinks" / "finance" / "ledger").unlink()
    sink = rig.make()
    sink.write([thing(2, "B")])
    sink.close()
    assert names(rig) == ["finance-000000000001.jsonl", "finance-000000000002.jsonl"]


def test_two_sinks_of_one_name_do_not_share_a_ledger(rig: SftpRig) -> None:
    first, second = rig.make(), rig.make()
    first.write([thing(1, "A")])
    with pytest.raises(SinkUnavailable):
        second.write([thing(2, "B")])
    first.close()
    assert {v.outcome for v in second.write([thing(2, "B")])} == {"done"}
    second.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"host_key": "whatever"}, {"key": "-----BEGIN"}, {"key": None, "password": None}, {"password": "in plain text"},
        {"name": "../{number}"}, {"name": "fixed.txt"}, {"marker": "done"}, {"marker": "./x"}, {"port": 0},
        {"format": {"kind": "csv"}}, {"format": {"kind": "csv", "columns": {}}},
        {"format": {"kind": "csv", "columns": {"A": "a"}, "encoding": "utf-16"}},
        {"format": {"kind": "fixed", "columns": [{"from": "a", "width": 0}]}},
        {"format": {"kind": "xml", "root": "a b"}},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    good = {"host": "h", "user": "u", "key": "secret:k", "host_key": "SHA256:" + "A" * 43}
    SftpSettings.model_validate(good)
    with pytest.raises(ValidationError):
        SftpSettings.model_validate({**good, **wrong})


def test_it_is_the_sink_of_its_kind(rig: SftpRig) -> None:
    assert isinstance(build("sftp", rig.settings, rig.base, secrets=rig.secrets), SftpSink)


def test_check_tells_of_a_sink_at_work_that_it_works(rig: SftpRig) -> None:
    at_work, asked = rig.make(), rig.make()
    at_work.write([thing(1, "A")])
    assert "in use" in asked.check()
    at_work.close()
    assert "next file" in asked.check()
