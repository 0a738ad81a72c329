"""Fixtures that any test may ask for by name."""

from support.mariadb import mariadb, mariadb_server
from support.postgres import postgres, postgres_server
from support.sftp import ssh_server
from support.tds_server import tds_server

__all__ = ["mariadb", "mariadb_server", "postgres", "postgres_server", "ssh_server", "tds_server"]
