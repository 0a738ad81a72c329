"""Supplier: someone who sells to us; the master that purchase orders refer to."""

from __future__ import annotations

from crossdock_controller.documents.base import register
from crossdock_controller.documents.trading import Trader


@register
class Supplier(Trader, frozen=True, gc=False):
    """A supplier as the owner of the list numbers it."""
