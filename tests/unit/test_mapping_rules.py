"""Rules: each broken one rejects or warns, with the value and the limit in its reason."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock_controller.outcomes import Outcomes
from support.mapping import Known, all_dead, all_mapped, engine, file_batches, run

CSV = {"kind": "csv", "delimiter": ";"}
FIELDS = {
    "number": "NO",
    "status": "STATUS",
    "carrier": "CARRIER",
    "lines": {"sku": "SKU", "quantity": "QTY", "lot": "LOT"},
}
HEADER = "NO;STATUS;CARRIER;SKU;QTY;LOT\n"


def outcomes(rules: list[dict[str, Any]], body: str, lookup: Known | None = None) -> list[Outcomes]:
    mapping = {"mapping": "m", "document": "Shipment", "each": "NO", "fields": FIELDS, "rules": rules}
    return run(engine(CSV, mapping), file_batches(CSV, (HEADER + body).encode()), lookup)


@pytest.mark.parametrize(
    ("rule", "code", "field", "reason"),
    [
        ({"required": "carrier"}, "required", "carrier", "carrier is missing"),
        ({"required": ["status", "lines.lot"]}, "required", "lines.lot", "lot of line 2 is missing"),
        (
            {"range": {"field": "lines.quantity", "max": 100}},
            "above_range", "lines.quantity", "quantity of line 2 is 250.5, the most allowed is 100",
        ),
        (
            {"range": {"field": "lines.quantity", "min": 6, "max": 300}},
            "below_range", "lines.quantity", "quantity of line 1 is 5, the least allowed is 6",
        ),
        (
            {"pattern": {"field": "number", "matches": "S-[0-9]+"}},
            "pattern", "number", "number is '4711', which does not match S-[0-9]+",
        ),
        (
            {"one_of": {"field": "status", "values": ["open", "shipped"]}},
            "not_allowed", "status", "status is 'lost', allowed are open, shipped",
        ),
        (
            {"known": {"field": "lines.sku", "document": "Product"}, "severity": "reject"},
            "unknown_product", "lines.sku", "sku of line 2 is 'B', no Product B is known",
        ),
    ],
)  # fmt: skip
def test_a_broken_rule_rejects_the_document_and_says_why(
    rule: dict[str, Any], code: str, field: str, reason: str
) -> None:
    (dead,) = all_dead(outcomes([rule], "4711;lost;;A;5;L1\n4711;lost;;B;250.5;\n", Known("A")))
    assert (dead.code, dead.field, dead.reason) == (code, field, reason)
    assert dead.records == 2
    assert [row["SKU"] for row in dead.rows] == ["A", "B"]
    assert dead.locator.text() == "in.csv line 2"


def test_a_rule_that_warns_lets_the_document_go_with_its_warning() -> None:
    rule = {"known": {"field": "lines.sku", "document": "Product"}, "severity": "warn"}
    (mapped,) = all_mapped(outcomes([rule], "1;;;A;5;\n"))
    assert mapped.warnings == ("sku of line 1 is 'A', no Product A is known",)


def test_a_reason_of_ones_own_replaces_ours() -> None:
    rule = {"required": "carrier", "reason": "the carrier must be booked first"}
    (dead,) = all_dead(outcomes([rule], "1;;;A;5;\n"))
    assert dead.reason == "the carrier must be booked first"


def test_a_sound_document_breaks_no_rule() -> None:
    rules: list[dict[str, Any]] = [
        {"required": ["carrier", "lines"]},
        {"range": {"field": "lines.quantity", "min": 0, "max": 5}},
        {"pattern": {"field": "number", "matches": "[0-9]+"}},
        {"one_of": {"field": "status", "values": "open"}},
        {"known": {"field": "lines.sku", "document": "Product", "issuer": "acme"}},
    ]
    (mapped,) = all_mapped(outcomes(rules, "1;open;UPS;A;5;\n", Known("acme:A")))
    assert mapped.warnings == ()


def test_the_store_is_asked_once_for_all_keys_of_a_run() -> None:
    lookup = Known("A", "B")
    rule = {"known": {"field": "lines.sku", "document": "Product"}}
    outcomes([rule], "1;;;A;5;\n1;;;B;5;\n2;;;A;1;\n3;;;C;1;\n", lookup)
    assert lookup.asked == [{"A", "B", "C"}]


def test_a_sum_that_does_not_agree_warns_and_within_the_tolerance_does_not() -> None:
    csv = {"kind": "csv", "delimiter": ";"}
    money = {"currency": {"value": "EUR"}}
    mapping = {
        "mapping": "m",
        "document": "Invoice",
        "each": "NO",
        "fields": {
            "number": "NO",
            "total": {"from": "TOTAL", **money},
            "lines": {"amount": {"from": "AMOUNT", **money}},
        },
        "rules": [{"sum": {"of": "lines.amount", "equals": "total", "tolerance": "0.02"}}],
    }
    body = b"NO;TOTAL;AMOUNT\n1;10.00;5.00\n1;10.00;4.98\n2;10.00;5.00\n2;10.00;4.97\n3;;1\n"
    one, two, three = all_mapped(run(engine(csv, mapping), file_batches(csv, body)))
    assert (one.warnings, three.warnings) == ((), ())
    assert two.warnings == ("lines.amount add up to 9.97, total is 10.00, the tolerance is 0.02",)
    mapping["rules"][0]["severity"] = "reject"  # type: ignore[index]
    (dead,) = all_dead(run(engine(csv, mapping), file_batches(csv, body)))
    assert (dead.code, dead.field) == ("sum", "total")


def test_all_broken_parts_of_one_rule_are_told_at_once() -> None:
    body = "".join(f"1;;;SKU{i};5;\n" for i in range(8))
    rule: dict[str, Any] = {"known": {"field": "lines.sku", "document": "Product"}}
    (dead,) = all_dead(outcomes([{**rule, "severity": "reject"}], body))
    assert dead.reason.count("is known") == 5
    assert dead.reason.endswith("; and 3 more")
    (mapped,) = all_mapped(outcomes([rule], body))
    assert mapped.holds[0].reason == dead.reason
    assert mapped.holds[0].waits == tuple(("Product", f"SKU{i}") for i in range(8))


def test_a_document_that_refers_to_something_unknown_is_held_and_the_others_are_not() -> None:
    rules: list[dict[str, Any]] = [
        {"known": {"field": "lines.sku", "document": "Product"}},
        {"range": {"field": "lines.quantity", "max": 9}, "severity": "hold"},
    ]
    (out,) = outcomes(rules, "1;;;A;5;\n2;;;B;5;\n3;;;A;10;\n", Known("A"))
    assert out.holding
    assert [(m.key, [(h.code, h.field, h.waits) for h in m.holds]) for m in out.mapped] == [
        ("1", []),
        ("2", [("unknown_product", "lines.sku", (("Product", "B"),))]),
        ("3", [("above_range", "lines.quantity", ())]),
    ]
    (sound,) = outcomes(rules, "1;;;A;5;\n", Known("A"))
    assert not sound.holding
