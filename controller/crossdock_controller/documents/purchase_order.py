"""PurchaseOrder: we ask a supplier for goods; the number is ours.

Version 1 was one entity for both sides, which its `kind` told apart.
"""

from __future__ import annotations

from typing import Any, ClassVar

from crossdock_controller.documents.base import register
from crossdock_controller.documents.ordering import Order
from crossdock_controller.documents.versions import steps


@register
class PurchaseOrder(Order, frozen=True, gc=False):
    """An order as its buyer keeps it."""

    VERSION: ClassVar[int] = 2


def _without_kind(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "kind"}


def _with_kind(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "kind": "purchase"}


steps(PurchaseOrder, to=2, up=_without_kind, down=_with_kind)
