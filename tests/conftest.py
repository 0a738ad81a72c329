"""Fixtures that any test may ask for by name."""

from support.postgres import postgres, postgres_server

__all__ = ["postgres", "postgres_server"]
