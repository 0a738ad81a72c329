"""Conditions: what is refused when loaded, and what a comparison means when it runs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import cel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.conditions.lint import lint
from crossdock_controller.conditions.predicate import PredicateFailed, bind, compile_predicate
from crossdock_controller.conditions.vocabulary import Vocabulary
from crossdock_controller.config.vocabulary import document_fields
from crossdock_controller.documents.base import Money, Quantity
from crossdock_controller.documents.invoice import Invoice
from crossdock_controller.documents.shipment import Shipment, ShipmentLine

TREE = Vocabulary(
    fields=document_fields(),
    values={
        "document": frozenset(document_fields()),
        "site": frozenset({"atl1", "rtm1"}),
        "source": frozenset({"wms-shipments"}),
        "lane": frozenset({"critical", "standard", "bulk"}),
    },
    labels=frozenset({"region", "site"}),
)

STATIC = {"document": "Invoice", "site": "atl1", "source": "erp", "lane": "bulk", "labels": {"region": "us"}}


def messages(source: str) -> str:
    return "\n".join(f"{f.message} ({f.hint})" for f in lint(source, TREE))


def decide(source: str, document: msgspec.Struct, key: str = "4711") -> bool:
    settled = compile_predicate(source).settle(STATIC)
    if settled.failure:
        raise PredicateFailed(settled.failure)
    return settled.holds(STATIC, key, document)


@pytest.mark.parametrize(
    "source",
    [
        "document == 'Shipment'",
        'document == "Shipment" && labels.region == "us"',
        "document in ['Shipment', 'Invoice'] || site == 'atl1'",
        "doc.total != null && doc.total.amount > 100.10",
        "doc.lines.exists(l, l.sku == 'A-1' && l.quantity.value > 5)",
        "has(labels.region) && key.startsWith('47')",
        "doc.shipped_at > timestamp('2026-01-01T00:00:00Z')",
        "doc.issued_on >= '2026-01-01'",
        "labels['region'] == 'us'",
        "doc.packages > -1",
        "lane == 'critical' ? site == 'atl1' : true",
        "size(doc.lines) > 3 // many",
        "true",
    ],
)
def test_a_sound_condition_has_no_finding(source: str) -> None:
    assert lint(source, TREE) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "condition is empty"),
        ("document = 'Shipment'", "cannot be read"),
        ("document == 'Shipment", "cannot be read"),
        ("documnt == 'Shipment'", "unknown variable 'documnt' (did you mean 'document'?)"),
        ("total > 5", "fields of the document are written doc.total"),
        ("document == 'Shipmnt'", "no document is called 'Shipmnt' (did you mean 'Shipment'?)"),
        ("document in ['Shipment', 'Invoce']", "no document is called 'Invoce' (did you mean 'Invoice'?)"),
        ("site == 'alt1'", "no site is called 'alt1' (did you mean 'atl1'?)"),
        ("doc.numbr == '5'", "no document has the field 'numbr' (did you mean 'number'?)"),
        ("doc.total.amout > 5", "no document has the field 'total.amout' (did you mean 'total.amount'?)"),
        ("doc.lines.sku == 'A'", "doc.lines is a list and has no 'sku' (doc.lines.exists(x, x.sku == ...))"),
        ("doc == null", "'doc' is used whole (name the field: doc.number)"),
        ("labels.regoin == 'us'", "no site carries the label 'regoin' (did you mean 'region'?)"),
        ("doc.total > 100", "doc.total is not one value (name a field of it: doc.total.amount, doc.total.currency)"),
        ("doc.number == 5", "doc.number is text and 5 is number: never equal"),
        ("'5' == 5", "'5' is text and 5 is number: never equal"),
        ("doc.shipped_at > '2026-01-01'", "write timestamp("),
        ("doc.total.amount + 1 > 100", "conditions compare, they do not compute ('+')"),
        ("doc.packages - 1 > 100", "conditions compare, they do not compute ('-')"),
        ("doc.total.amount > 1234567890123456.7", "more than 15 significant digits"),
        ("doc.lines.exists(l, doc.lines.exists(m, m.sku == l.sku))", "a comprehension stands inside another"),
        ("doc.lines.all(key, key.sku == 'x')", "'key' is bound inside a comprehension and is also a variable"),
        ("document.startWith('S')", "unknown function 'startWith' (did you mean 'startsWith'?)"),
        ("key.matches('(a')", "'(a' is not a regular expression"),
        ("document", "condition compares nothing"),
        ("(" * 30 + "true" + ")" * 30, "nests more than 24 brackets"),
        ("[" * 900, "nests more than 24 brackets"),
        ("document == 'a' || " * 200 + "true", "the limit is 2000"),
    ],
)
def test_a_senseless_condition_is_refused_with_the_next_step(source: str, message: str) -> None:
    assert message in messages(source)


@given(st.text(alphabet="doc.labesitn=!<>&|()[]{}'\"\\0159 ?:+-*/%,\n~é", max_size=60))
def test_no_text_at_all_breaks_the_lint(source: str) -> None:
    lint(source, TREE)


def test_text_never_equals_a_number_in_cel_itself_which_is_why_the_lint_refuses_it() -> None:
    assert not decide("'5' == 5", Invoice("1"))
    assert "never equal" in messages("'5' == 5")


def test_only_the_part_that_looks_into_the_document_runs_for_each_document() -> None:
    (only,) = compile_predicate("doc.total.amount > 5 && document == 'Invoice' && labels.region == 'us'").alternatives
    assert only.static is not None
    assert only.static.variables() == ["document", "labels"]
    assert only.dynamic is not None
    assert only.dynamic.variables() == ["doc"]
    assert only.fields == ("total",)
    assert not only.needs_key


def test_an_alternative_that_holds_for_every_document_of_a_source_needs_no_document() -> None:
    condition = compile_predicate("doc.status == 'x' && document == 'SalesOrder' || site == 'atl1' || key == '1'")
    assert condition.settle(STATIC).matched
    elsewhere = condition.settle({**STATIC, "site": "rtm1"})
    assert not elsewhere.matched
    assert [alternative.needs_key for alternative in elsewhere.open] == [True]


def test_a_choice_at_the_top_is_not_split() -> None:
    (only,) = compile_predicate("site == 'atl1' || lane == 'bulk' ? key == '1' && document == 'x' : false").alternatives
    assert only.static is None
    assert only.needs_key
    assert only.statics == ("document", "lane", "site")


CLAUSES = st.sampled_from(
    [
        "document == 'Invoice'",
        "site == 'x'",
        "labels.none == 'x'",
        "key == '4711'",
        "doc.none == 'x'",
        "doc.number == '1'",
    ]
)
CONDITIONS = st.recursive(
    CLAUSES,
    lambda inner: (
        st.builds("{} {} {}".format, inner, st.sampled_from(["&&", "||"]), inner)
        | inner.map("({})".format)
        | inner.map("!({})".format)
    ),
    max_leaves=8,
)


@given(CONDITIONS)
def test_splitting_a_condition_changes_no_verdict(source: str) -> None:
    document = Invoice("1")
    try:
        expected = cel.evaluate(source, {**STATIC, "key": "4711", "doc": {"number": "1"}})
    except KeyError:
        expected = False
    settled = compile_predicate(source).settle(STATIC)
    try:
        found = settled.holds(STATIC, "4711", document)
    except PredicateFailed:
        found = False
    assert found is expected


def test_a_name_inside_a_comprehension_is_no_field_of_the_document() -> None:
    (only,) = compile_predicate("doc.lines.exists(site2, site2.sku == 'A')").alternatives
    assert only.fields == ("lines",)
    assert only.statics == ()


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-99999999999, max_value=99999999999),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-99999999999, max_value=99999999999),
)
def test_money_compares_as_the_decimals_do(left: Decimal, right: Decimal) -> None:
    document = Invoice("1", total=Money(left, "EUR"))
    text = f"{right:f}"
    assert decide(f"doc.total.amount > {text}", document) is (left > right)
    assert decide(f"doc.total.amount == {text}", document) is (left == right)
    assert decide(f"doc.total.amount <= {text}", document) is (left <= right)


def test_money_is_compared_to_the_cent() -> None:
    document = Invoice("1", total=Money(Decimal("100.10"), "EUR"))
    assert decide("doc.total.amount == 100.10", document)
    assert decide("doc.total.amount == 100.1", document)
    assert not decide("doc.total.amount > 100.10", document)
    assert decide("doc.total.amount > 100.09", document)
    assert decide("doc.total.amount < 101", document)


@pytest.mark.parametrize("text", ["1234567890123456.7", "0.1234567890123456", "1E+400", "1E-310", "NaN", "Infinity"])
def test_a_decimal_that_a_double_cannot_hold_is_refused_instead_of_compared_wrongly(text: str) -> None:
    with pytest.raises(PredicateFailed):
        decide("doc.total.amount > 1", Invoice("1", total=Money(Decimal(text), "EUR")))


def test_a_large_round_decimal_is_exact() -> None:
    assert bind(Decimal("1E+20")) == 1e20
    assert bind(Decimal("100000000000000000000.00")) == 1e20


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("doc.total.amount > 5", "operation is not defined"),
        ("doc.shipment_no == 'x'", "there is no 'shipment_no'"),
        ("labels.country == 'us'", "there is no 'country'"),
        ("doc.number", "gave str"),
        ("doc.number.matches('(')", "regex"),
    ],
)
def test_a_condition_that_cannot_be_decided_says_why(source: str, reason: str) -> None:
    with pytest.raises(PredicateFailed, match=reason):
        decide(source, Invoice("1"))


def test_values_are_bound_as_the_reference_page_promises() -> None:
    shipped = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
    shipment = Shipment(
        "S1",
        (ShipmentLine("A-1", Quantity(Decimal("2.5"), "KGM")),),
        shipped_at=shipped,
        extensions={"acme": {"dock": "7"}},
    )
    assert decide("doc.shipped_at > timestamp('2026-01-02T03:03:59Z')", shipment)
    assert decide("doc.lines.exists(l, l.quantity.value == 2.5 && l.quantity.uom == 'KGM')", shipment)
    assert decide("doc.carrier == '' && doc.weight == null", shipment)
    assert decide("doc.extensions.acme.dock == '7'", shipment)
    assert decide("doc.issued_on >= '2026-01-31'", Invoice("1", issued_on=dt.date(2026, 2, 1)))


def test_a_number_over_64_bits_is_refused() -> None:
    with pytest.raises(PredicateFailed, match="64 bits"):
        bind(2**63)
    assert bind(2**63 - 1) == 2**63 - 1
