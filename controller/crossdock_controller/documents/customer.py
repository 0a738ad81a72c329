"""Customer: someone who buys; the master that orders refer to."""

from __future__ import annotations

from crossdock_controller.documents.base import register
from crossdock_controller.documents.trading import Trader


@register
class Customer(Trader, frozen=True, gc=False):
    """A customer as the owner of the list numbers it."""
