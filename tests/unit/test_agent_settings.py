"""Settings and secrets: complete before anything starts, and secrets only where their owner put them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, Refused
from crossdock.lock import SingleInstance, is_held
from crossdock.secrets import Secrets
from crossdock_agent import priority, settings
from crossdock_agent.files import write_atomic


def test_settings_come_from_the_file_and_the_state_flag_wins(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('state = "/elsewhere"\nlog_level = "DEBUG"\n', encoding="utf-8")
    assert settings.load(tmp_path).log_level == "DEBUG"
    assert settings.load(tmp_path).state == str(tmp_path)
    assert settings.load(file=file).state == "/elsewhere"
    assert settings.load(tmp_path / "none").log_level == "INFO"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "log_levle = 'INFO'", "log_levle"),
        ("a.toml", "log_level = 'LOUD'", "LOUD"),
        ("a.toml", "= nonsense", "not valid"),
        ("a.json", "[1]", "not a table"),
        ("missing.toml", None, "cannot be read"),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_fault(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        settings.load(file=tmp_path / name)
    assert name in str(caught.value)


def test_a_secret_comes_from_the_environment_or_from_a_file_of_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(tmp_path)
    assert secrets.resolve("plain text") == "plain text"
    with pytest.raises(ConfigError, match="CROSSDOCK_SECRET_WMS_DB_PASSWORD"):
        secrets.resolve("secret:wms-db-password")
    (tmp_path / "secrets").mkdir()
    write_atomic(tmp_path / "secrets" / "wms-db-password", b"from file\n", private=True)
    assert secrets.resolve("secret:wms-db-password") == "from file"
    monkeypatch.setenv("CROSSDOCK_SECRET_WMS_DB_PASSWORD", "from environment")
    assert secrets.resolve("secret:wms-db-password") == "from environment"


def test_a_secret_name_cannot_leave_its_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid"):
        Secrets(tmp_path).resolve("secret:../identity/key.pem")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a POSIX matter; on Windows the ACL is set at writing")
def test_a_secret_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    path = tmp_path / "secrets" / "x"
    path.write_text("s3cret", encoding="utf-8")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        Secrets(tmp_path).resolve("secret:x")
    assert "s3cret" not in str(caught.value)


def test_an_atomic_write_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def broken(_fd: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_state_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "agent.lock"
    assert not is_held(lock)
    with SingleInstance(lock):
        assert is_held(lock)
        with pytest.raises(Refused, match="in use by another process"):
            SingleInstance(lock)
    assert not is_held(lock)


@pytest.mark.skipif(sys.platform == "win32", reason="niceness is a POSIX matter; Windows has priority classes")
def test_the_agent_steps_back_and_never_forward() -> None:
    program = (
        "import os; from crossdock_agent import priority\n"
        "for nice in (0, 7, 3, 12): priority.lower(nice); print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    now = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == [now, max(now, 7), max(now, 7), max(now, 12)]


@pytest.mark.skipif(sys.platform == "win32", reason="niceness is a POSIX matter; Windows has priority classes")
def test_a_niceness_that_cannot_be_set_does_not_keep_the_agent_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError("not allowed here")

    monkeypatch.setattr(os, "setpriority", refused)
    priority.lower(19)


def test_niceness_is_checked_with_the_other_settings(tmp_path: Path) -> None:
    assert settings.load(tmp_path).nice == 5
    (tmp_path / "agent.toml").write_text("nice = 20", encoding="utf-8")
    with pytest.raises(ConfigError, match="nice"):
        settings.load(tmp_path)
