"""Conditions of routes: CEL, checked when loaded (`lint`), bound and run for each event (`predicate`)."""
