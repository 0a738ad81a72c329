"""SalesOrder: a customer asks us for goods; the number is ours."""

from __future__ import annotations

from crossdock_controller.documents.base import register
from crossdock_controller.documents.ordering import Order


@register
class SalesOrder(Order, frozen=True, gc=False):
    """An order as its seller keeps it."""
