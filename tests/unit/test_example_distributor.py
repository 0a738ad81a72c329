"""The example tree is what the documentation promises: no problem, and its sample data become the right documents."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossdock.v1.batch_pb2 import BatchHeader, Column, Origin
from crossdock_controller.config.load import inspect
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.config.tree import read
from crossdock_controller.config.vocabulary import document_fields
from crossdock_controller.outcomes import Mapped, Outcomes

EXAMPLE = Path(__file__).parents[2] / "examples" / "distributor"


class EverythingKnown:
    def known(self, document: str, keys: set[str]) -> set[str]:
        return keys


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime.from_tree(read(EXAMPLE / "config")[0], 1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, written anew by its script."""
    spec = importlib.util.spec_from_file_location("make_sample", EXAMPLE / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = tmp_path_factory.mktemp("sample")
    module.main(target)
    return target


def run(runtime: Runtime, site: str, source: str, header: BatchHeader, payload: bytes) -> Outcomes:
    engine = runtime.engine(site, source)
    assert engine is not None
    header.closes = True
    (outcomes,) = engine.run([(header, payload, 0)], EverythingKnown())
    assert outcomes.dead == []
    assert outcomes.records() == header.records
    return outcomes


def run_file(runtime: Runtime, site: str, source: str, path: Path, kind: str) -> list[Mapped]:
    prefix, payload = path.read_bytes().split(b"\n", 1)
    origin = Origin(kind="file", name=path.name, unit=b"u" * 16, first_line=2)
    header = BatchHeader(format=kind, records=payload.count(b"\n"), prefix=prefix + b"\n", origin=origin)
    return run(runtime, site, source, header, payload).mapped


def run_table(runtime: Runtime, sample: Path, source: str, table: str, key: list[str]) -> list[Mapped]:
    """Rows as the agent sends them: dates and decimals as text."""
    with sqlite3.connect(sample / "rtm1" / "erp.sqlite") as erp:
        cursor = erp.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        rows = [[str(v) if isinstance(v, float) else v for v in row] for row in cursor]
    erp.close()
    header = BatchHeader(
        format="rows",
        records=len(rows),
        origin=Origin(kind="table", name=table),
        columns=[Column(name=name, type="text") for name in names],
        key_columns=key,
    )
    return run(runtime, "rtm1", source, header, b"".join(map(msgspec.msgpack.encode, rows))).mapped


def body(mapped: Mapped) -> Any:
    return msgspec.json.decode(mapped.body)


def test_the_example_tree_has_no_error_and_no_warning() -> None:
    tree, problems = read(EXAMPLE / "config")
    assert problems == []
    assert [p.text() for p in inspect(tree)[1]] == []


def test_the_sample_in_the_repository_is_what_its_script_writes(sample: Path) -> None:
    written = sorted(p.relative_to(sample) for p in sample.rglob("*") if p.is_file() and p.suffix != ".sqlite")
    assert len(written) == 4
    for name in written:
        assert (EXAMPLE / "sample" / name).read_bytes() == (sample / name).read_bytes()


def test_lines_of_a_shipment_become_one_document_with_exact_quantities(runtime: Runtime, sample: Path) -> None:
    path = sample / "rtm1/wms/out/SHP20260130-01.csv"
    first, second = run_file(runtime, "rtm1", "wms-shipments", path, "csv")
    assert (first.key, first.records) == ("rtm1:S-1001", 2)
    assert body(first) == {
        "issuer": "rtm1",
        "zone": "Europe/Amsterdam",
        "number": "S-1001",
        "order_number": "4711",
        "shipped_at": "2026-01-30T13:05:00Z",
        "carrier": "DHL",
        "tracking": "003404341234567",
        "customer": {"id": "K-1001", "name": "Müller & Söhne GmbH"},
        "lines": [
            {"number": "1", "sku": "A-1001", "description": "Rillenkugellager 6204", "lot": "L-12",
             "quantity": {"value": "120", "uom": "H87", "raw_uom": "ST"}},
            {"number": "2", "sku": "C-3001", "description": 'Schmierfett "Typ 2"; Eimer',
             "quantity": {"value": "12.5", "uom": "KGM", "raw_uom": "KG"}},
        ],
    }  # fmt: skip
    assert body(second)["lines"][0]["quantity"]["value"] == "1200"
    assert "tracking" not in body(second)


def test_both_warehouses_may_use_the_same_shipment_number(runtime: Runtime, sample: Path) -> None:
    (atlanta,) = run_file(runtime, "atl1", "wms-shipments", sample / "atl1/wms/out/SHP20260130-01.csv", "csv")
    assert atlanta.key == "atl1:S-1001"
    assert body(atlanta)["shipped_at"] == "2026-01-30T14:15:00Z"


def test_a_bin_of_the_fixed_width_snapshot_becomes_a_stock_level(runtime: Runtime, sample: Path) -> None:
    levels = run_file(runtime, "rtm1", "wms-stock", sample / "rtm1/wms/stock/STK20260130.txt", "fixed")
    assert [(m.key, body(m)["on_hand"]["value"]) for m in levels] == [
        ("rtm1:01-001:A-1001:L-12:available", "880.000"),
        ("rtm1:01-002:A-1001:L-13:available", "-1200.000"),
        ("rtm1:02-010:C-3001::available", "87.500"),
        ("rtm1:02-011:D-4001::blocked", "312.250"),
    ]
    assert body(levels[0])["as_of"] == "2026-01-30T17:00:00Z"


def test_rows_of_the_erp_become_orders_invoices_and_products(runtime: Runtime, sample: Path) -> None:
    orders = run_table(runtime, sample, "erp-orders", "ORDER_EXPORT", ["ORDER_NO", "LINE_NO"])
    assert [(m.key, m.records, body(m)["status"], body(m)["total"]["amount"]) for m in orders] == [
        ("4711", 2, "shipped", "611.5"),
        ("4712", 1, "released", "204"),
        ("4713", 3, "open", "123.86"),
    ]
    assert [m.warnings for m in orders] == [(), (), ()]
    (invoice,) = run_table(runtime, sample, "erp-invoices", "INVOICES", ["INVOICE_ID"])
    assert body(invoice)["total"] == {"amount": "727.68", "currency": "EUR"}
    products = run_table(runtime, sample, "erp-products", "PRODUCTS", ["SKU"])
    assert [m.key for m in products] == ["A-1001", "A-1002", "B-2001", "C-3001", "D-4001"]


def test_documents_go_where_the_routes_say(runtime: Runtime, sample: Path) -> None:
    def sinks(site: str, source: str, mapped: Mapped) -> tuple[str, ...]:
        router, labels = runtime.router, runtime.labels(site)
        return router.route(mapped.document, mapped.key, site, source, labels, mapped.fields)

    (shipment, _) = run_file(runtime, "rtm1", "wms-shipments", sample / "rtm1/wms/out/SHP20260130-01.csv", "csv")
    stock = run_file(runtime, "rtm1", "wms-stock", sample / "rtm1/wms/stock/STK20260130.txt", "fixed")
    (invoice,) = run_table(runtime, sample, "erp-invoices", "INVOICES", ["INVOICE_ID"])
    assert sinks("rtm1", "wms-shipments", shipment) == ("archive", "finance", "webshop")
    assert [sinks("rtm1", "wms-stock", level) for level in stock] == [("archive", "webshop")] * 3 + [("archive",)]
    assert sinks("rtm1", "erp-invoices", invoice) == ("archive", "finance")
    assert runtime.router.take_problems() == []


def test_every_column_of_the_finance_sink_is_a_field_of_its_document(runtime: Runtime) -> None:
    settings = runtime.sinks["finance"].typed().model_dump()
    assert sorted(settings["tables"]) == ["Invoice", "SalesOrder", "Shipment"]
    for document, table in settings["tables"].items():
        paths = list(table["columns"].values())
        paths += [f"{child['each']}.{path}" for child in table["children"] for path in child["columns"].values()]
        unknown = {path for path in paths if "$" not in path} - document_fields()[document].keys()
        assert unknown == set()
