"""Fixtures that any test may ask for by name."""

from support.mariadb import mariadb, mariadb_server
from support.postgres import postgres, postgres_server

__all__ = ["mariadb", "mariadb_server", "postgres", "postgres_server"]
