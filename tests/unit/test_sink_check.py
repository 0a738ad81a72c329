"""`crossdock sink check`: the sink's own word, by the revision in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import Refused, SinkUnavailable
from crossdock_controller.commands.sinks import check_sink
from support.estate import Estate


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    estate = Estate(tmp_path / "data")
    yield estate
    estate.close()


def test_a_sink_that_can_be_reached_says_so_and_gets_nothing(estate: Estate) -> None:
    found = check_sink(estate.data, "files")
    assert (found.sink, found.kind) == ("files", "file")
    assert "writable" in found.found
    assert [path for path in (estate.data.root / "out").iterdir() if path.is_file()] == []


def test_a_sink_that_cannot_be_reached_says_why(estate: Estate) -> None:
    (estate.data.root / "out").write_bytes(b"in the way")
    with pytest.raises(SinkUnavailable, match="out"):
        check_sink(estate.data, "files")


def test_a_sink_that_does_not_exist_is_refused_with_those_that_do(estate: Estate) -> None:
    with pytest.raises(Refused, match="files"):
        check_sink(estate.data, "fliles")
