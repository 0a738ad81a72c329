"""Groups: a document of several records is mapped whole or not at all, wherever the batches were cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller.outcomes import Dead, Mapped, Outcomes
from support.mapping import Batch, Known, all_dead, all_mapped, engine, file_batches, run, summary, table_batches

CSV = {"kind": "csv", "delimiter": ";"}
ORDERS: dict[str, Any] = {
    "mapping": "orders",
    "document": "SalesOrder",
    "each": "NO",
    "fields": {"number": "NO", "customer.name": "NAME", "lines": {"sku": "SKU", "quantity": "QTY"}},
}
HEADER = b"NO;NAME;SKU;QTY\n"


def orders(body: bytes, *, records: int = 5000, mapping: dict[str, Any] | None = None) -> list[Outcomes]:
    return run(engine(CSV, mapping or ORDERS), file_batches(CSV, HEADER + body, records=records))


def lines_of(mapped: Mapped) -> list[str]:
    return [line["sku"] for line in msgspec.json.decode(mapped.body)["lines"]]


def test_consecutive_records_of_one_key_are_one_document() -> None:
    one, two = all_mapped(orders(b"1;Acme;A;1\n1;Acme;B;2\n2;Ever;C;3\n"))
    assert (lines_of(one), lines_of(two)) == (["A", "B"], ["C"])
    assert (one.key, one.records, one.locator.line, two.locator.line) == ("1", 2, 2, 4)


@pytest.mark.parametrize("records", [1, 2, 3])
def test_a_group_across_batches_is_in_the_batch_of_its_first_record(records: int) -> None:
    outcomes = orders(b"1;Acme;A;1\n1;Acme;B;2\n1;Acme;C;3\n2;Ever;D;4\n", records=records)
    assert [m.records for m in outcomes[0].mapped] == [3]
    assert lines_of(outcomes[0].mapped[0]) == ["A", "B", "C"]
    assert [m.key for m in outcomes[3 // records].mapped if m.key == "2"] == ["2"]


def test_one_bad_line_fails_the_whole_group_and_names_itself() -> None:
    outcomes = orders(b"1;Acme;A;1\n1;Acme;B;two\n1;Acme;;3\n2;Ever;C;3\n")
    (dead,) = all_dead(outcomes)
    assert (dead.code, dead.field, dead.records, dead.locator.line) == ("bad_decimal", "lines.quantity", 3, 2)
    assert dead.reason == "line 3: QTY: 'two' is not a number; line 4: SKU: is blank, lines.sku is required"
    assert dead.sample == b"1;Acme;B;two"
    assert [row["SKU"] for row in dead.rows] == ["A", "B", ""]
    assert [m.key for m in all_mapped(outcomes)] == ["2"]


def test_a_line_that_cannot_be_read_fails_the_group_its_key_names() -> None:
    outcomes = orders(b"1;Acme;A;1\n1;Acme\n1;Acme;C;3\n2;Ever;D;\xff\n3;Last;E;1\n")
    one, two = all_dead(outcomes)
    assert (one.code, one.records) == ("too_few_fields", 3)
    assert one.reason.startswith("line 3: the record ends after 2 of 4 fields")
    assert one.rows[1] == {"NO": "1", "NAME": "Acme"}
    assert (two.code, two.records, two.field) == ("encoding", 1, "QTY")
    assert [m.key for m in all_mapped(outcomes)] == ["3"]


def test_a_record_of_no_readable_group_fails_both_its_neighbours() -> None:
    """It may be the last line of one or the first of the other; an order without a line is a wrong order."""
    outcomes = orders(b'1;Acme;A;1\n2;Ever;B;1\n"2" ;Ever;C;1\n3;Last;D;1\n4;More;E;1\n')
    dead = all_dead(outcomes)
    assert [(d.code, d.records, d.locator.line) for d in dead] == [
        ("group_uncertain", 1, 3),
        ("csv_syntax", 1, 4),
        ("group_uncertain", 1, 5),
    ]
    assert "line 4" in dead[0].reason
    assert [m.key for m in all_mapped(outcomes)] == ["1", "4"]


def test_a_record_without_a_key_fails_its_neighbours_too() -> None:
    outcomes = orders(b"1;Acme;A;1\n;;B;1\n2;Ever;C;1\n3;Last;D;1\n")
    assert [d.code for d in all_dead(outcomes)] == ["group_uncertain", "group_key_blank", "group_uncertain"]
    assert [m.key for m in all_mapped(outcomes)] == ["3"]


def test_an_unreadable_record_between_two_of_one_group_fails_that_group_only() -> None:
    outcomes = orders(b'1;Acme;A;1\n"1"x;B;1\n1;Acme;C;1\n2;Ever;D;1\n')
    assert [(d.code, d.records) for d in all_dead(outcomes)] == [("group_uncertain", 2), ("csv_syntax", 1)]
    assert [m.key for m in all_mapped(outcomes)] == ["2"]


def test_a_record_the_agent_refused_fails_the_group_that_its_first_bytes_name() -> None:
    batches = file_batches(CSV, HEADER + b"1;Acme;A;1\n1;Acme;B;2\n")
    batches[0][0].rejects.add(record=2, line=4, code="too_long", reason="too long", sample=b"1;Acme;Cxxxxxxx")
    (dead,) = all_dead(run(engine(CSV, ORDERS), batches))
    assert (dead.code, dead.records, dead.sample) == ("too_long", 3, b"1;Acme;Cxxxxxxx")


def test_blank_and_left_out_records_neither_end_a_group_nor_belong_to_it() -> None:
    mapping = {**ORDERS, "where": {"column": "SKU", "not_equals": "SUBTOTAL"}}
    outcomes = orders(b"1;Acme;A;1\n\n1;Acme;SUBTOTAL;1\n1;Acme;B;2\n", mapping=mapping)
    (mapped,) = all_mapped(outcomes)
    assert (mapped.records, lines_of(mapped)) == (2, ["A", "B"])
    assert sum(summary(outcomes)["ignored"].values()) == 2


def test_a_key_that_comes_back_after_another_is_dead() -> None:
    outcomes = orders(b"1;Acme;A;1\n2;Ever;B;1\n1;Acme;C;1\n")
    (dead,) = all_dead(outcomes)
    assert (dead.code, dead.locator.line) == ("group_scattered", 4)
    assert [m.key for m in all_mapped(outcomes)] == ["1", "2"]


def test_a_key_may_come_back_in_another_file() -> None:
    first, second = (file_batches(CSV, HEADER + b"1;Acme;A;1\n") for _ in range(2))
    second[0][0].origin.unit = b"another"
    assert len(all_mapped(run(engine(CSV, ORDERS), [*first, *second]))) == 2


def test_a_file_that_follows_ends_the_group_of_the_one_before() -> None:
    first, second = (file_batches(CSV, HEADER + b"1;Acme;A;1\n") for _ in range(2))
    first[0][0].closes = False
    second[0][0].origin.unit = b"another"
    outcomes = run(engine(CSV, ORDERS), [*first, *second])
    assert [m.records for m in all_mapped(outcomes)] == [1, 1]


def test_the_last_group_stays_open_until_its_unit_ends() -> None:
    batches = file_batches(CSV, HEADER + b"1;Acme;A;1\n2;Ever;B;1\n\n2;Ever;C;1\n2;Ever;D;1\n", records=2)
    batches[-1][0].closes = False
    outcomes = run(engine(CSV, ORDERS), batches)
    assert [m.key for m in all_mapped(outcomes)] == ["1"]
    assert [out.open_records for out in outcomes] == [1, 2, 1]
    assert all(not out.ignored for out in outcomes)  # the blank line will be read again with its group


def test_what_was_left_open_is_decided_with_what_follows() -> None:
    made = engine(CSV, ORDERS)
    batches = file_batches(CSV, HEADER + b"1;Acme;A;1\n2;Ever;B;1\n2;Ever;C;1\n3;Last;D;1\n", records=2)
    run(made, batches[:1])
    header, payload, _ = batches[0]
    outcomes = run(made, [(header, payload, 1), *batches[1:]])
    assert [(m.key, m.records) for m in all_mapped(outcomes)] == [("2", 2), ("3", 1)]


def test_a_trailing_record_of_no_known_group_waits_for_its_neighbour() -> None:
    batches = file_batches(CSV, HEADER + b'"1"x;A;1\n1;Acme;B;1\n', records=1)
    made = engine(CSV, ORDERS)
    (first,) = run(made, batches[:1])
    assert (first.open_records, first.dead) == (1, [])
    outcomes = run(made, batches)
    assert [d.code for d in all_dead(outcomes)] == ["csv_syntax", "group_uncertain"]


def test_a_group_that_outgrows_the_cap_is_dead_and_not_half_a_document() -> None:
    batches = file_batches(CSV, HEADER + b"1;Acme;A;1\n" * 6, records=2)
    batches[-1][0].closes = False
    outcomes = run(engine(CSV, ORDERS), batches, cap_reached=True)
    (dead,) = all_dead(outcomes)
    assert (dead.code, dead.records, len(dead.rows)) == ("group_too_long", 6, 6)
    assert all(out.open_records == 0 for out in outcomes)


def test_a_changed_header_keeps_the_groups_together() -> None:
    outcomes = run(engine(CSV, ORDERS), file_batches(CSV, b"NO;NAME;ITEM;QTY\n1;Acme;A;1\n1;Acme;B;1\n2;Ever;C;1\n"))
    dead = all_dead(outcomes)
    assert [(d.code, d.records) for d in dead] == [("header_changed", 2), ("header_changed", 1)]
    outcomes = run(engine(CSV, ORDERS), file_batches(CSV, b"NUMBER;NAME;SKU;QTY\n1;Acme;A;1\n1;Acme;B;1\n"))
    assert [(d.code, d.records) for d in all_dead(outcomes)] == [("header_changed", 1), ("header_changed", 1)]


def test_a_header_field_that_differs_within_a_group_is_taken_from_the_first_record_with_a_warning() -> None:
    (mapped,) = all_mapped(orders(b"1;Acme;A;1\n1;;B;1\n1;Other;C;1\n"))
    assert msgspec.json.decode(mapped.body)["customer"] == {"name": "Acme"}
    assert mapped.warnings == ("line 4: NAME is 'Acme' on the first record and 'Other' here; the first is taken",)


def test_two_columns_can_make_the_key_together() -> None:
    mapping = {**ORDERS, "each": ["NO", "NAME"], "fields": {**ORDERS["fields"], "issuer": "NAME"}}
    outcomes = orders(b"1;Acme;A;1\n1;Ever;B;1\n1;Ever;C;1\n", mapping=mapping)
    assert [(m.key, m.records) for m in all_mapped(outcomes)] == [("Acme:1", 1), ("Ever:1", 2)]


def test_rows_of_a_table_are_grouped_across_batches_and_read_again_are_the_same_events() -> None:
    rows = [["1", "Acme", "A", 1], ["1", "Acme", "B", 2], ["2", "Ever", "C", 3]]
    made = engine({"kind": "rows"}, ORDERS)
    columns = ["NO", "NAME", "SKU", "QTY"]
    first = all_mapped(run(made, table_batches(columns, rows, records=1, key="NO")))
    again = all_mapped(run(made, table_batches(columns, [["0", "Z", "Z", 0], *rows], key="NO")))
    assert [m.event_id for m in again[1:]] == [m.event_id for m in first]
    assert first[0].locator.text() == "ORDERS NO=1"


def test_a_dead_group_is_retried_as_a_whole() -> None:
    (dead,) = all_dead(orders(b"1;Acme;A;1\n1;Acme;B;two\n"))
    made = engine(CSV, ORDERS)
    rows = [dict(row) for row in dead.rows]
    rows[1]["QTY"] = "2"
    mapped = made.remap(rows, dead.locator, Known())
    assert isinstance(mapped, Mapped)
    assert (mapped.records, lines_of(mapped)) == (2, ["A", "B"])
    rows[1]["NO"] = "2"
    scattered = made.remap(rows, dead.locator, Known())
    assert isinstance(scattered, Dead)
    assert scattered.code == "group_scattered"


_LINES = st.lists(
    st.sampled_from(
        [
            b"1;Acme;A;1", b"1;Acme;B;2", b"2;Ever;C;3", b"3;Last;D;4", b"3;Last;E;x", b"1;Acme", b"2", b";;;",
            b"", b"4;More;F;\xff", b'"4"x;More;F;1', b'5;"a\nb";G;1', b"T;;;", b";x;H;1",
        ]
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(lines=_LINES, records=st.integers(1, 9), ended=st.booleans())
def test_the_outcomes_of_groups_do_not_depend_on_how_the_file_was_cut(
    lines: list[bytes], records: int, ended: bool
) -> None:
    data = HEADER + b"\n".join(lines) + (b"\n" if ended else b"")
    made = engine(CSV, {**ORDERS, "where": {"column": "NO", "not_equals": "T"}})
    whole = summary(run(made, file_batches(CSV, data)))
    assert summary(run(made, file_batches(CSV, data, records=records))) == whole
    assert whole["open"] == 0


@settings(max_examples=150, deadline=None)
@given(lines=_LINES, records=st.integers(1, 5), at_once=st.integers(1, 4))
def test_rounds_that_carry_open_groups_over_decide_every_record_once(
    lines: list[bytes], records: int, at_once: int
) -> None:
    """As the normalizer works: some batches a round, beginning with what the round before left open."""
    data = HEADER + b"\n".join(lines) + b"\n"
    made = engine(CSV, ORDERS)
    batches = file_batches(CSV, data, records=records)
    decided = _in_rounds(made, batches, at_once)
    assert sum(out.records() for out in decided) == sum(h.records + len(h.rejects) for h, _, _ in batches)
    whole = run(made, batches)
    # A key that comes back is known as such only within a round; the store knows the rest.
    if not any(d.code == "group_scattered" for d in all_dead(whole)):
        assert summary(decided) == summary(whole)


def _in_rounds(made: Any, batches: Sequence[Batch], at_once: int) -> list[Outcomes]:
    decided: list[Outcomes] = []
    at, skip, size = 0, 0, at_once
    while at < len(batches):
        part = [(h, p, skip if i == 0 else 0) for i, (h, p, _) in enumerate(batches[at : at + size])]
        outcomes = run(made, part)
        first_open = next((i for i, out in enumerate(outcomes) if out.open_records), None)
        decided += outcomes[: len(outcomes) if first_open is None else first_open + 1]
        if first_open is None:
            at, skip, size = at + len(part), 0, at_once
            continue
        header = part[first_open][0]
        moved = (at + first_open, header.records + len(header.rejects) - outcomes[first_open].open_records)
        size = size + 1 if moved == (at, skip) else at_once
        at, skip = moved
        decided[-1].open_records = 0
    return decided
