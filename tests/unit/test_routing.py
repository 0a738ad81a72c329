"""Routing: which sinks an event is due at, and that no event can stop a batch."""

from __future__ import annotations

from decimal import Decimal

import pytest

from crossdock_controller.conditions.predicate import compile_predicate
from crossdock_controller.documents.base import Document, Money
from crossdock_controller.documents.invoice import Invoice
from crossdock_controller.documents.product import Product
from crossdock_controller.routing import CompiledRoute, Router


def router(**conditions: tuple[str, list[str]]) -> Router:
    routes = [CompiledRoute(name, compile_predicate(when), tuple(to)) for name, (when, to) in conditions.items()]
    return Router(routes, {"erp": "critical"})


def take(
    router: Router, document: Document, *, site: str = "atl1", labels: dict[str, str] | None = None
) -> tuple[str, ...]:
    return router.route(type(document).__name__, document.key(), site, "erp", labels or {"region": "us"}, document)


def test_every_route_that_matches_adds_its_sinks_and_each_sink_is_named_once() -> None:
    routes = router(
        everything=("true", ["archive"]),
        invoices=("document == 'Invoice'", ["finance", "archive"]),
        large=("document == 'Invoice' && doc.total.amount > 1000", ["finance", "audit"]),
        shipments=("document == 'Shipment'", ["webshop"]),
    )
    assert take(routes, Invoice("1", total=Money(Decimal(5), "EUR"))) == ("archive", "finance")
    assert take(routes, Invoice("2", total=Money(Decimal("1000.01"), "EUR"))) == ("archive", "finance", "audit")
    assert take(routes, Product("A-1")) == ("archive",)


def test_an_event_that_no_route_takes_is_due_nowhere() -> None:
    assert take(router(invoices=("document == 'Invoice'", ["finance"])), Product("A-1")) == ()
    assert take(Router([]), Product("A-1")) == ()


def test_origin_decides_by_site_source_lane_and_labels() -> None:
    routes = router(
        us=("labels.region == 'us'", ["a"]),
        rotterdam=("site == 'rtm1' && labels.site == site", ["b"]),
        urgent=("lane == 'critical' && source == 'erp'", ["c"]),
    )
    assert take(routes, Product("A")) == ("a", "c")
    assert take(routes, Product("A"), site="rtm1", labels={"region": "eu"}) == ("b", "c")


def test_a_condition_that_fails_does_not_match_and_is_counted_and_the_other_routes_go_on() -> None:
    routes = router(
        large=("doc.total.amount > 1000", ["audit"]),
        everything=("true", ["archive"]),
    )
    assert [take(routes, Invoice(str(n))) for n in range(3)] == [("archive",)] * 3
    (problem,) = routes.take_problems()
    assert (problem.route, problem.document, problem.count) == ("large", "Invoice", 3)
    assert "operation is not defined" in problem.text
    assert routes.take_problems() == []


def test_a_missing_label_is_one_problem_for_the_source_not_one_an_event() -> None:
    routes = router(regional=("labels.region == 'us'", ["a"]))
    for _ in range(3):
        assert take(routes, Product("A"), labels={"env": "test"}) == ()
    (problem,) = routes.take_problems()
    assert (problem.text, problem.count) == ("there is no 'region'", 1)


def test_the_number_of_different_problems_kept_is_limited() -> None:
    routes = router(odd=("doc.number.matches(key)", ["a"]))
    for n in range(500):
        assert routes.route("Invoice", f"({n}", "atl1", "erp", {}, Invoice("1")) == ()
    assert 1 <= len(routes.take_problems()) <= 200


def test_conditions_on_the_origin_alone_never_run_twice_for_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = router(invoices=("document == 'Invoice'", ["finance"]))
    assert take(routes, Invoice("1")) == ("finance",)
    monkeypatch.setattr(type(routes.routes[0].predicate), "settle", None)
    assert take(routes, Invoice("2")) == ("finance",)
