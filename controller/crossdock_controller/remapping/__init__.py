"""Remapping: raw batches of the intake normalized again by the mapping in force (docs/decisions/0033)."""
