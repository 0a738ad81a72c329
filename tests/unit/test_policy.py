"""What a site lets the centre do: its file has the last word, and a broken one allows nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock.sitecommands import KINDS, fault_of
from crossdock_agent import policy


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "policy.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_without_a_file_all_is_allowed_but_the_values_of_records(tmp_path: Path) -> None:
    found = policy.read(tmp_path / "policy.toml")
    assert [found.refusal(name, "wms") for name in KINDS] == [""] * len(KINDS)
    assert found.payloads is False


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('remote_commands = "all"', set(KINDS)),
        ('remote_commands = "none"', set()),
        ("remote_commands = []", set()),
        ('remote_commands = ["check", "logs"]', {"check", "logs"}),
        ('\ufeffremote_commands = ["check"]', {"check"}),
        ("payloads = true", set(KINDS)),
        ("", set(KINDS)),
    ],
)
def test_commands_are_allowed_by_name(tmp_path: Path, text: str, allowed: set[str]) -> None:
    found = policy.read(written(tmp_path, text))
    assert {name for name in KINDS if not found.refusal(name)} == allowed


def test_sources_are_allowed_by_name(tmp_path: Path) -> None:
    found = policy.read(written(tmp_path, 'sources = ["wms"]'))
    assert found.refusal("pause", "wms") == found.refusal("check") == ""
    assert "about source 'erp'" in found.refusal("pause", "erp")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "remote commands: all; values of records are not shown"),
        (
            'remote_commands = ["check", "logs"]\nsources = ["wms"]\npayloads = true',
            "remote commands: check, logs; about sources: wms; values of records may be shown",
        ),
        (
            "remote_commands = []\nsources = []",
            "remote commands: none; about sources: none; values of records are not shown",
        ),
    ],
)
def test_a_policy_is_told_in_words(tmp_path: Path, text: str, said: str) -> None:
    assert policy.read(written(tmp_path, text)).words == said


@pytest.mark.parametrize(
    "text",
    [
        "remote_commands = all",
        'remote_commands = "some"',
        'remote_commands = ["chek"]',
        "remote_commands = true",
        'remote_command = "none"',
        'sources = "wms"',
        'payloads = "yes"',
        "\x00",
        b"\xff\xfe",
        "# " + "x" * 70_000 + '\nremote_commands = "none"\npayloads = ',
        'remote_commands = "none"\n[more]\n',
    ],
)
def test_a_file_that_is_not_understood_refuses_everything(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml cannot be used, so every command is refused: ."):
        policy.read(written(tmp_path, text))


def test_a_file_that_cannot_be_read_refuses_everything(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").mkdir()
    with pytest.raises(ConfigError, match="every command is refused"):
        policy.read(tmp_path / "policy.toml")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_to_nowhere_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to(tmp_path / "unmounted" / "policy.toml")
    with pytest.raises(ConfigError, match="every command is refused"):
        policy.read(tmp_path / "policy.toml")


@pytest.mark.parametrize(
    "source", ["../x", "..", "/etc/passwd", "C:\\x", "-h", "--from-file=x", "a/b", "a\\b", "a\nb", "a b", "", "x" * 101]
)
@pytest.mark.parametrize("name", ["try", "rescan", "pause", "resume"])
def test_no_path_and_no_option_is_a_source(name: str, source: str) -> None:
    assert "is not valid" in fault_of(name, {"source": source})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("logs", {"since_seconds": "0"}), ("logs", {"since_seconds": "-1"}), ("logs", {"since_seconds": "1e9"}),
        ("logs", {"since_seconds": "999999999"}), ("logs", {"level": "debug"}), ("logs", {"level": "ERROR\n"}),
        ("logs", {"grep": "a\nb"}), ("logs", {"grep": ""}), ("logs", {"grep": "x" * 201}), ("logs", {"file": "x"}),
        ("logs", {"grep": "\x1b[2J"}), ("try", {"source": "wms", "records": "0"}),
        ("try", {"source": "wms", "records": "1000"}), ("try", {"source": "wms", "values": "true"}),
        ("try", {"source": "wms\n"}), ("check", {"state": "/etc"}), ("support-bundle", {"out": "/x"}),
        ("restart", {"source": "wms"}), ("", {}), ("CHECK", {}), ("check ", {}), ("../check", {}),
    ],
)  # fmt: skip
def test_arguments_are_taken_strictly(name: str, arguments: dict[str, str]) -> None:
    assert fault_of(name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("check", {}), ("rescan", {}), ("rescan", {"source": "WMS_1.x-2"}), ("logs", {}),
        ("logs", {"since_seconds": "86400", "level": "ERROR", "grep": "a .* [b] ünï"}),
        ("try", {"source": "wms", "records": "999"}),
    ],
)  # fmt: skip
def test_what_is_meant_is_taken(name: str, arguments: dict[str, str]) -> None:
    assert fault_of(name, arguments) == ""
