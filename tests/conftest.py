"""Fixtures that any test may ask for by name."""

from support.mariadb_changelog import mariadb_changelog, mariadb_changelog_server
from support.postgres import postgres, postgres_server

__all__ = ["mariadb_changelog", "mariadb_changelog_server", "postgres", "postgres_server"]
