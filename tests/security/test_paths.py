"""Names as weapons: from the centre, from an agent, from whoever may write into a folder that is collected."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
import zipfile
from pathlib import Path

import msgspec
import pytest
from pydantic import ValidationError

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock.secrets import Secrets
from crossdock.siteconfig import SiteConfig, SourceConfig
from crossdock_agent.drops.claims import Claims
from crossdock_agent.drops.gunzip import Damaged
from crossdock_agent.drops.handles import open_shared
from crossdock_agent.drops.zipped import Zip
from crossdock_controller.config.load import inspect
from crossdock_controller.sinks.file import FileSettings
from support.source_site import SourceSite

STRANGER = 54321  # a uid that nobody has
CLIMBING = [
    "../x",
    "..",
    ".",
    "/etc/x",
    "a/b",
    "a\\b",
    "C:x",
    "\\\\host\\share",
    "",
    ".hidden",
    "a\0b",
    "a\nb",
    "x" * 101,
]

needs_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root may give files away")


def site_of(drop: Path, **settings: object) -> SourceSite:
    """Of CSV files; settled from the start."""
    csv = {"kind": "csv", "encoding": "utf-8"}
    return SourceSite(
        "file_drop", {"directory": str(drop), "pattern": "*.csv", "settle_seconds": 0, "format": csv} | settings
    )


# --- from the centre


@pytest.mark.parametrize("name", CLIMBING)
def test_a_source_whose_name_is_a_path_is_refused_by_the_agent_though_it_is_signed(name: str) -> None:
    source = msgspec.json.encode({"name": name, "kind": "file_drop", "settings": {}})
    whole = b'{"site":"atl1","revision":1,"sources":[' + source + b"]}"
    with pytest.raises(ConfigError, match="name"):
        siteconfig.decode(whole)


def test_usual_names_are_taken() -> None:
    sources = [SourceConfig(name=n, kind="file_drop") for n in ("wms", "WMS-2", "a.b_c", "0")]
    config = SiteConfig(site="atl1", revision=1, sources=sources)
    assert siteconfig.decode(siteconfig.encode(config)) == config


@pytest.mark.parametrize("name", [*CLIMBING, "con", "NUL", "Aux.txt", "com1", "LPT9.x"])
def test_a_secret_is_looked_up_by_a_plain_name_only(tmp_path: Path, name: str) -> None:
    """Also none that Windows takes for a device: reading one may wait for ever."""
    (tmp_path / "x").write_text("outside")
    with pytest.raises(ConfigError, match=r"not valid|device"):
        Secrets(tmp_path).resolve(f"secret:{name}")


@pytest.mark.parametrize(
    "name",
    ["../{number}", "/tmp/{number}", "a/{number}", "a\\{number}", "C:{number}", ".{number}", "{number}/../x",
     "x{number}\0", "CON.{number}", "nul.{number}.jsonl", "Com1.{number}", "{number}.jsonl ", "{number}."],
)  # fmt: skip
def test_a_file_sink_writes_no_name_that_leads_elsewhere_or_is_a_device(name: str) -> None:
    with pytest.raises(ValidationError):
        FileSettings(kind="file", directory="out", name=name)


@pytest.mark.parametrize("part", ["sites/../x.yaml", "../sites/x.yaml", "/sites/x.yaml", "sites/../../x.yaml"])
def test_a_tree_holds_no_file_outside_of_its_folders(part: str) -> None:
    _, problems = inspect({part: "site: x\n"})
    assert [p for p in problems if p.file == part and p.severity == "error"]


def test_the_folder_of_claims_lies_in_the_collected_folder_whatever_source_and_machine_are_called(
    tmp_path: Path,
) -> None:
    for source, host in (("../../x", "h"), ("a", "../../h"), ("a/b", "h\\c"), ("..", "..")):
        assert Claims(tmp_path, source, host).directory.resolve().parent == tmp_path.resolve()


# --- from whoever may write into a folder


@needs_root
def test_a_link_of_somebody_to_what_is_not_his_is_not_read(tmp_path: Path) -> None:
    """A key of the agent, for one: it would be delivered to the centre, and archived where everybody reads it."""
    drop, secret = tmp_path / "drop", tmp_path / "key.pem"
    drop.mkdir()
    secret.write_bytes(b"NO\nprivate\n")
    (drop / "SHP1.csv").symlink_to(secret)
    os.lchown(drop / "SHP1.csv", STRANGER, STRANGER)
    (drop / "SHP2.csv").write_bytes(b"NO\n1\n")
    site = site_of(drop)
    assert [draft.header.origin.name for draft in site.drafts()] == ["SHP2.csv"]
    assert site.counters.snapshot()["files_unreadable"] == 1


@needs_root
def test_links_of_root_and_of_the_owner_are_read(tmp_path: Path) -> None:
    own, theirs = tmp_path / "own.csv", tmp_path / "theirs.csv"
    for path, owner in ((own, 0), (theirs, STRANGER)):
        path.write_bytes(b"x")
        os.chown(path, owner, owner)
    for number, (target, owner) in enumerate(((own, 0), (theirs, 0), (theirs, STRANGER))):
        link = tmp_path / f"link{number}"
        link.symlink_to(target)
        os.lchown(link, owner, owner)
        open_shared(link).close()


@needs_root
def test_a_link_that_is_swapped_for_a_file_after_the_opening_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, name = tmp_path / "key.pem", tmp_path / "SHP1.csv"
    secret.write_bytes(b"private")
    name.symlink_to(secret)
    opening = os.open

    def open_then_swap(*arguments: object, **options: object) -> int:
        descriptor = opening(*arguments, **options)  # type: ignore[arg-type]
        name.unlink()
        name.write_bytes(b"harmless")
        os.chown(name, STRANGER, STRANGER)
        return descriptor

    monkeypatch.setattr(os, "open", open_then_swap)
    with pytest.raises(PermissionError):
        open_shared(name)


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_pipe_in_place_of_a_file_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "SHP1.csv")
    done = threading.Event()

    def attempt() -> None:
        with pytest.raises(PermissionError) as error:
            open_shared(tmp_path / "SHP1.csv")
        assert error.value.errno == errno.EPERM
        done.set()

    threading.Thread(target=attempt, daemon=True).start()
    assert done.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids these names itself")
def test_names_in_a_folder_that_look_like_paths_or_commands_stay_names(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    evil = [
        "x\\..\\y.csv",
        "C:x.csv",
        "%2e%2e%2fx.csv",
        "-rf.csv",
        "$(reboot).csv",
        "a\nb.csv",
        "\x1b[2J.csv",
        "CON.csv",
    ]
    for number, name in enumerate(evil):
        (drop / name).write_bytes(b"NO\n%d\n" % number)
    site = site_of(drop, pattern="*.csv", afterwards="archive")
    assert {draft.header.origin.name for draft in site.drafts()} == set(evil)
    site.acknowledge()
    assert {p.name for p in (drop / "archive").iterdir()} == set(evil)
    assert {p.name for p in tmp_path.iterdir()} == {"drop"}


@pytest.mark.parametrize("name", ["../x.csv", "/x.csv", "C:/x.csv", "a/../../x.csv", "..\\x.csv", "\\x.csv"])
def test_a_member_of_a_zip_that_climbs_out_is_refused_by_name(name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        member = zipfile.ZipInfo("x")
        member.filename = name
        archive.writestr(member, b"1")
    opened = Zip(packed)
    (found,) = opened.members("*", by_time=False, max_bytes=100)
    with pytest.raises(Damaged) as error:
        opened.open(found)
    assert error.value.code == "unsafe_name"
