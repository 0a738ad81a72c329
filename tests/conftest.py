"""Fixtures that any test may ask for by name."""

import sys
from collections.abc import Iterator

import pytest

from support.mariadb import mariadb, mariadb_server
from support.nats_server import nats_server
from support.postgres import postgres, postgres_server
from support.rabbitmq import rabbitmq_server
from support.sftp import ssh_server
from support.tds_server import tds_server

__all__ = [
    "mariadb",
    "mariadb_server",
    "nats_server",
    "postgres",
    "postgres_server",
    "rabbitmq_server",
    "ssh_server",
    "tds_server",
]


@pytest.fixture(autouse=True)
def _a_screen_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How wide an answer is printed is found out once a process: no test decides it for the next, nor does xdist, which
    sets COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)
    yield
    module = sys.modules.get("crossdock_controller.cli.screen")
    if module is not None:
        module.screen.cache_clear()
        module.side.cache_clear()
