"""Samples: input that a person gives, and what a mapping makes of it. Nothing here touches a store."""
