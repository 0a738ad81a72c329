"""Names with dates, markers, and paths as Windows takes them: without a file system."""

from __future__ import annotations

import datetime as dt
import ntpath
import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from crossdock_agent.drops.handles import verbatim
from crossdock_agent.drops.markers import Markers
from crossdock_agent.drops.patterns import Pattern, dated, undated

NEW_YEAR_US = 1_704_067_200_000_000  # 2024-01-01 00:00 UTC


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", "in/2024/01/01/001-00"),
        ("America/New_York", "in/2023/12/31/365-19"),
        ("Asia/Tokyo", "in/2024/01/01/001-09"),
    ],
)
def test_a_directory_is_dated_in_its_zone(zone: str, expected: str) -> None:
    assert dated("in/{yyyy}/{mm}/{dd}/{ddd}-{hh}", NEW_YEAR_US, ZoneInfo(zone)) == expected


def test_an_unknown_token_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\{MM\}.*known: .*\{mm\}"):
        dated("in/{MM}", 0, dt.UTC)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", "/a/b"), ("/a/{yyyy}/b", "/a"), ("/a/b/{yyyy}/{mm}", "/a/b"), ("/a/b-{yy}", "/a")],
)
def test_the_part_above_the_first_date_is_found(path: str, expected: str) -> None:
    assert undated(Path(path)) == Path(expected)


def test_a_run_of_stars_stands_for_any_number_of_folders_or_none() -> None:
    pattern = Pattern("**/in/**/*.csv")
    inside = pattern.enter(pattern.start, "in")
    assert pattern.is_file(inside, "a.csv")
    assert not pattern.is_file(pattern.start, "a.csv")
    deep = pattern.enter(pattern.enter(inside, "x"), "y")
    assert pattern.is_file(deep, "a.csv")
    assert not pattern.is_file(pattern.enter(pattern.start, "x"), "a.csv")


@pytest.mark.parametrize("text", ["a//b", "/a", "a/", "./a", "a/../b", "..", "C:/a", "a\\b", "a/**", "{x}/a"])
def test_a_pattern_that_would_leave_the_directory_or_match_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|token"):
        Pattern(text)


@pytest.mark.parametrize(
    ("template", "name", "marker"),
    [
        ("{name}.done", "in/a.csv", "in/a.csv.done"),
        ("{stem}.ctl", "a.b.csv", "a.b.ctl"),
        ("{stem}.ctl", ".profile", ".profile.ctl"),
        ("go-{stem}-{name}", "x/a.csv", "x/go-a-a.csv"),
    ],
)
def test_a_marker_is_named_after_its_file(template: str, name: str, marker: str) -> None:
    markers = Markers(template)
    assert markers.of(name) == marker
    assert markers.is_marker(marker.rpartition("/")[2])
    assert not markers.is_marker(name.rpartition("/")[2])


def test_characters_of_a_marker_that_mean_something_in_a_pattern_mean_nothing() -> None:
    markers = Markers("[{name}]*.ok")
    assert markers.is_marker("[a.csv]*.ok")
    assert not markers.is_marker("[a.csv]xx.ok")


def test_a_marker_in_a_folder_is_known_for_ours_where_case_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "normcase", ntpath.normcase)
    monkeypatch.setattr(os, "sep", "\\")
    markers = Markers("{name}.Done")
    marker = markers.comparable("IN/Shp1.CSV.DONE")
    assert marker == markers.comparable(markers.of("in/shp1.csv"))
    assert markers.is_marker("Shp1.CSV.DONE")
    assert markers.belongs("SHP*.csv")(marker)
    assert not markers.belongs("STK*.csv")(marker)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("D:/wms/out", "\\\\?\\D:\\wms\\out"),
        ("D:\\wms\\.\\x\\..\\out", "\\\\?\\D:\\wms\\out"),
        ("//server/share/out", "\\\\?\\UNC\\server\\share\\out"),
        ("\\\\server\\share\\out", "\\\\?\\UNC\\server\\share\\out"),
        ("\\\\?\\D:\\wms", "\\\\?\\D:\\wms"),
    ],
)
def test_windows_gets_paths_that_may_be_long(path: str, expected: str) -> None:
    assert verbatim(path, windows=True) == expected
    assert verbatim(path, windows=False) == path
