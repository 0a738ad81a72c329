"""Open files: as many as allowed, and a clear word when they do not reach for the fleet."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from loguru import logger

from crossdock_controller.limits import FILES_BESIDE, FILES_PER_AGENT, OpenFiles


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(str(message)), level="ERROR", format="{message}")
    yield lines
    logger.remove(number)


def test_a_fleet_over_the_limit_is_named_once_and_again_when_it_doubled(said: list[str]) -> None:
    limit = 100 * FILES_PER_AGENT + FILES_BESIDE
    files = OpenFiles(limit)
    for agents in (0, 99, 100):
        files.check(agents)
    assert said == []
    for agents in (101, 102, 102, 202, 203):
        files.check(agents)
    assert len(said) == 2
    assert f"to {101 * FILES_PER_AGENT + FILES_BESIDE}" in said[0]


def test_no_limit_is_never_too_low(said: list[str]) -> None:
    OpenFiles(None).check(1_000_000)
    assert said == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no such limit")
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource; from crossdock_controller.limits import raise_open_files;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "wanted = 900 if hard == resource.RLIM_INFINITY else min(hard, 900);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(300, wanted), wanted));"
        "assert raise_open_files() == wanted, wanted;"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, wanted)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
