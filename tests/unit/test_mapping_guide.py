"""The guide to mapping does what it says: its file, its list and its mapping are run."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from crossdock import yamlfile
from crossdock_controller.config.lists import tables
from crossdock_controller.mappings.codes import ListCodes
from crossdock_controller.mappings.compile import problems
from crossdock_controller.mappings.model import Mapping
from support.mapping import Known, engine, file_batches

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "mapping.md").read_text("utf-8")
CSV = {"kind": "csv", "delimiter": ";"}


def block(begins: str) -> str:
    found = re.search(rf"^    {begins}.*\n(?:    .*\n)+", PAGE, re.MULTILINE)
    assert found is not None
    return dedent(found[0])


def mapping() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(mapping: .*?)```", PAGE, re.DOTALL)
    file = yamlfile.parse("guide", text)
    assert file.problems == []
    return dict(file.value)


def test_the_example_of_the_guide_becomes_what_the_guide_says() -> None:
    (units,) = tables({"lists/units.csv": block("from,to")})
    assert units.model is not None
    lists = {"units": units.model}
    assert problems(Mapping.model_validate(mapping()), None, lists) == []
    made = engine(CSV, mapping())
    made.codes = ListCodes(lists)
    batches = file_batches(CSV, block("BELEG").encode())
    (out,) = made.run(batches, Known())
    (whole,) = out.mapped
    assert [(one.document, one.key, one.records) for one in whole.all()] == [
        ("Shipment", "atl1:4711", 2),
        ("Customer", "atl1:00042", 0),
    ]
    shipment: Any = whole.fields
    assert shipment.shipped_at.isoformat() == "2026-01-31T08:15:00+00:00"
    assert [(line.sku, str(line.quantity.value), line.quantity.uom, line.extensions) for line in shipment.lines] == [
        ("77", "1250.00", "KGM", {"lagerfix": {"gross": "15.00"}}),
        ("78", "3", "H87", {"lagerfix": {"gross": "-8.40"}}),
    ]
    assert [(dead.code, dead.list, dead.value, dead.records) for dead in out.dead] == [
        ("unknown_code", "units", "KRT", 1)
    ]


def test_the_formats_and_options_that_the_table_of_troubles_names_exist() -> None:
    column = Mapping.model_validate(
        {
            "mapping": "troubles",
            "document": "Invoice",
            "fields": {
                "number": {"from": "REMARK", "extract": r"PO *(\d+)"},
                "issued_on": {"from": "DAY", "format": ["cyymmdd", "jde", "yyddd", "excel", "epoch"]},
                "due_on": {"from": "DAY", "format": "%d%m%y", "pivot": 50, "blank": ["00000000", "N/A", "-"]},
                "total": {"from": "SUM", "decimal": ",", "thousands": ".", "negative": ["parentheses", "CR"],
                          "positive": "DB", "currency": {"value": "EUR"}},
                "lines": {"sku": {"first_of": ["A", "B"]},
                          "quantity": {"from": "Q", "uom": "U", "convert": {"to": "H87", "factors": {"CS": 12}}}},
            },
        }
    )  # fmt: skip
    assert problems(column) == []
