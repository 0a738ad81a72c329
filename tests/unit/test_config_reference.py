"""The reference page names every key there is, and its examples are what it says they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from crossdock import yamlfile
from crossdock_agent.sources.base import kinds as agent_kinds
from crossdock_controller.conditions.lint import lint
from crossdock_controller.conditions.vocabulary import Vocabulary
from crossdock_controller.config import schema
from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.lists import ListFile
from crossdock_controller.config.load import inspect
from crossdock_controller.config.models import (
    SOURCE_KEYS,
    Bandwidth,
    BandwidthWindow,
    Budget,
    Limits,
    OutboxLimits,
    Route,
    Schedule,
    SinkDef,
    Site,
    Source,
    Writer,
)
from crossdock_controller.config.policy import ApprovalRule, PromotionRule
from crossdock_controller.config.reconciliations import Brake, Reconciliation, Side
from crossdock_controller.config.scopes import Environment, Group
from crossdock_controller.config.teams import Owned, Sla, Team
from crossdock_controller.config.variables import substitute
from crossdock_controller.config.vocabulary import document_fields
from crossdock_controller.documents.base import entities
from crossdock_controller.formats.base import kinds as format_kinds
from crossdock_controller.mappings.converters import converters
from crossdock_controller.mappings.model import RULES, Also, Case, Cleaning, CodesOf, FieldSpec, Mapping, Pad, UnitsSpec
from crossdock_controller.samples.cases import Expected, ExpectedCounts, ExpectedDead, ExpectedDocument, MappingTest
from crossdock_controller.sinks.base import kinds as sink_kinds

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "configuration.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FOLDERS = {
    "site": "sites",
    "source": "sources",
    "mapping": "mappings",
    "when": "routes",
    "sink": "sinks",
    "list": "lists",
    "writer": "writers",
}

# What the examples lean on: parts of files on the page are put into these, and what they name is there.
AROUND = {
    "format": "source: fixed\non: {}\nkind: file_drop\ndirectory: in\n",
    "deletes": "mapping: erp-stock\ndocument: StockLevel\nfields: {location: warehouse, sku: sku, on_hand: qty}\n",
}
BESIDE = {"sinks/audit.yaml": "sink: audit\nkind: file\ndirectory: audit\n"}

# Which settings are described in which table: the heading it stands under, its first key, what stands before its keys.
TABLES = {
    "FileDropSettings": ("file_drop", "directory", ""),
    "FileTailSettings": ("file_tail", "directory", ""),
    "SqlTableSettings": ("sql_table", "connection.sqlite", ""),
    "Connection": ("sql_table", "connection.sqlite", "connection."),
    "SnapshotSettings": ("Reading by key", "max_vanished_percent", ""),
    "Aggregate": ("Aggregates", "aggregate.children", "aggregate."),
    "Child": ("Aggregates", "table", ""),
    "OutboxSettings": ("Outbox tables", "outbox.after", "outbox."),
    "Mark": ("Outbox tables", "outbox.after", "outbox.mark."),
    "ChangeLogSettings": ("Change logs", "change_log.log_table", "change_log."),
    "FixedField": ("Formats", "name", ""),
    "Trailer": ("Formats", "begins", ""),
}
FORMATS = {"Csv": "csv", "Lines": "lines", "JsonLines": "jsonl", "JsonDocument": "json", "XmlDocument": "xml",
           "X12": "x12", "Edifact": "edifact", "FixedWidth": "fixed", "Binary": "binary"}  # fmt: skip
INHERITED = {"SqlQuerySettings", "ReconcileSettings"}  # described by what they add


def keys_of(model: Any) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def documented() -> list[str]:
    keys = [
        key
        for model in (
            Site,
            Source,
            Route,
            SinkDef,
            Writer,
            Mapping,
            FieldSpec,
            CodesOf,
            ListFile,
            Cleaning,
            Pad,
            UnitsSpec,
            Also,
            Case,
        )
        for key in keys_of(model)
    ]
    keys += [f"outbox.{key}" for key in keys_of(OutboxLimits)]
    keys += [f"schedule.{key}" for key in keys_of(Schedule)] + [f"budget.{key}" for key in keys_of(Budget)]
    keys += [f"limits.{key}" for key in keys_of(Limits) if key != "bandwidth"]
    keys += [f"limits.bandwidth.{key}" for key in keys_of(Bandwidth) if key != "windows"]
    keys += [f"limits.bandwidth.windows[].{key}" for key in keys_of(BandwidthWindow)]
    keys += [key for key in keys_of(MappingTest) if key != "expected"]
    keys += [f"expected.{key}" for key in keys_of(Expected)]
    keys += [f"documents[].{key}" for key in keys_of(ExpectedDocument)]
    keys += [f"dead[].{key}" for key in keys_of(ExpectedDead)]
    keys += [f"counts.{key}" for key in keys_of(ExpectedCounts)]
    keys += [*keys_of(Group), *keys_of(Environment), "include"]
    keys += [f"approvals[].{key}" for key in keys_of(ApprovalRule)]
    keys += [*keys_of(Team), *(f"owns[].{key}" for key in keys_of(Owned)), *(f"sla.{key}" for key in keys_of(Sla))]
    keys += [*keys_of(Reconciliation), *(f"brake.{key}" for key in keys_of(Brake))]
    keys += [f"{side}.{key}" for side in ("left", "right") for key in keys_of(Side)]
    keys += [f"promotion.{key}" for key in keys_of(PromotionRule)]
    keys += [key for kind in schema.source_kinds() for key in schema.setting_names(kind)]
    keys += [f"connection.{key}" for key in schema.source_schemas()["$defs"]["Connection"]["properties"]]
    keys += [key for kind in schema.writer_kinds() for key in schema.setting_names(kind, "writers")]
    keys += [key for kind in sink_kinds().values() for key in keys_of(kind.settings)]
    keys += [key for name, kind in format_kinds().items() if name != "rows" for key in keys_of(kind.settings)]
    keys += [*sink_kinds(), *schema.source_kinds(), *entities(), *converters(), *RULES]
    not_written = {"lines", "lines_of", "deletes_ignored"}  # as the model holds what is written otherwise
    elsewhere = {
        "settings",
        "left",
        "right",
        "brake",
        "sla",
        "options",
        "outbox",
        "limits",
        "connection",
        *not_written,
    }  # described by their parts
    return sorted(set(keys) - elsewhere)


@pytest.mark.parametrize("key", documented())
def test_every_key_is_on_the_page(key: str) -> None:
    assert f"`{key}`" in PAGE


def test_every_example_is_plain_yaml() -> None:
    assert len(EXAMPLES) > 8
    for example in EXAMPLES:
        several = re.search(r"^(on|when): .*\n\1: ", example, re.MULTILINE)
        for text in example.splitlines() if several else [example]:
            assert yamlfile.parse("example", text).problems == []


def test_every_condition_on_the_page_is_sound() -> None:
    conditions = [text for example in EXAMPLES for text in re.findall(r"^when: (.*)$", example, re.MULTILINE)]
    assert len(conditions) >= 5
    for condition in conditions:
        assert lint(condition, Vocabulary(fields=document_fields(), labels=frozenset({"region"}))) == []


def whole_files() -> dict[str, str]:
    """The examples as one tree: whole files as they are, parts of files in what they are a part of."""
    tree = dict(BESIDE)
    for number, example in enumerate(EXAMPLES):
        text = AROUND.get(example.partition(":")[0], "") + example
        first = text.partition(":")[0]
        if first in FOLDERS and not re.search(r"^(on|when): .*\n\1: ", text, re.MULTILINE):
            tree[f"{FOLDERS[first]}/example-{number}.yaml"] = text
    rules = next(example for example in EXAMPLES if example.startswith("rules:"))
    shipments = next(name for name, text in tree.items() if text.startswith("mapping: wms-shipments"))
    tree[shipments] += rules
    return tree


def values_of(example: str) -> dict[str, Any]:
    value = yamlfile.parse("example", example).value
    assert isinstance(value, dict)
    return value


def test_every_example_on_the_page_is_accepted() -> None:
    loaded, problems = inspect(whole_files())
    assert [problem.text() for problem in errors_of(problems)] == []
    assert loaded is not None
    assert len(loaded.sources) >= 12
    assert len(loaded.mappings) >= 3


def test_the_tree_of_the_quick_start_is_accepted_without_a_warning() -> None:
    page = (DOCS / "guide" / "quickstart.md").read_text("utf-8")
    files = re.findall(r"^`config/(\S+\.yaml)`\n\n((?:    .*\n|\n)+)", page, re.MULTILINE)
    assert len(files) == 5
    assert inspect({name: dedent(text) for name, text in files})[1] == []


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(text, id=f"{path.stem}:{text.split()[1]}")
        for path in [DOCS / "reference" / "configuration.md", *sorted((DOCS / "guide").glob("*.md"))]
        for text in re.findall(r"```yaml\n(?:#.*\n)*(source: .*?)```", path.read_text("utf-8"), re.DOTALL)
    ],
)
def test_every_source_of_the_page_and_the_guides_is_accepted_by_its_agent(example: str) -> None:
    """An agent sees more than a schema: settings that do not go together."""
    value = values_of(example)
    settings = substitute({k: v for k, v in value.items() if k not in SOURCE_KEYS}, {"wms_root": "wms", "site": "rtm1"})
    assert schema.source_findings(value["kind"], settings) == []
    msgspec.convert(settings, type=agent_kinds()[value["kind"]].settings)


def tables_under(heading: str) -> list[list[list[str]]]:
    """The cells of each table between a heading and the next one."""
    body = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    found: list[list[list[str]]] = [[]]
    for line in body.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" |")])
        elif found[-1]:
            found.append([])
    return [table[2:] for table in found if table]


def rows_of(heading: str, first: str) -> dict[str, str]:
    """Default by key of the table whose first key is *first*."""
    table = next(rows for rows in tables_under(heading) if rows and names_in(rows[0][0])[:1] == [first])
    return {name: row[2] for row in table for name in names_in(row[0])}


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def shown(value: Any) -> str:
    number = isinstance(value, float) and value == int(value)
    return value if isinstance(value, str) else json.dumps(int(value) if number else value)


def check_default(struct: str, key: str, definition: dict[str, Any], cell: str) -> None:
    property_ = definition["properties"][key]
    if key in definition.get("required", ()):
        assert cell.startswith("required"), f"{struct}.{key} is required, the page says {cell!r}"
    elif property_.get("default") not in (None, ""):
        texts = [f"`{shown(property_['default'])}`", *(["required"] if property_["default"] == [] else [])]
        assert cell.startswith(tuple(texts)) or (property_["default"] == [] and not cell), f"{struct}.{key}: {cell!r}"


def test_every_setting_of_a_source_is_in_its_table_with_its_default_and_no_other() -> None:
    definitions = schema.source_schemas()["$defs"]
    assert set(definitions) == {*TABLES, *FORMATS, *INHERITED}
    for struct, (heading, first, prefix) in TABLES.items():
        rows, definition = rows_of(heading, first), definitions[struct]
        for key, property_ in definition["properties"].items():
            if prefix + key in rows:
                check_default(struct, key, definition, rows[prefix + key])
            else:  # described by its parts
                assert any(name.startswith(f"{prefix}{key}.") for name in rows), f"{struct}.{key}"
                assert "$ref" in str(property_)
        known = {prefix + key for key in definition["properties"]}
        strange = {name for name in rows if name.startswith(prefix) and "." not in name[len(prefix) :]} - known
        assert strange == set(), struct


def test_what_a_reconciling_or_a_query_adds_is_in_a_table_of_its_own() -> None:
    definitions = schema.source_schemas()["$defs"]
    for struct, base, table in (
        ("ReconcileSettings", "SnapshotSettings", ("Reading by key", "every_seconds")),
        ("SqlQuerySettings", "SqlTableSettings", ("sql_query", "query")),
    ):
        rows = rows_of(*table)
        added = set(definitions[struct]["properties"]) - set(definitions[base]["properties"])
        assert added <= set(rows) <= set(definitions[struct]["properties"])
        for key, cell in rows.items():
            check_default(struct, key, definitions[struct], cell)


def test_every_setting_of_a_format_is_in_the_table_with_its_default() -> None:
    kinds: list[str] = []
    rows: dict[tuple[str, str], str] = {}
    for cells in next(table for table in tables_under("Formats") if len(table[0]) == 5):
        kinds = names_in(cells[0]) or kinds
        rows.update({(kind, name): cells[3] for kind in kinds for name in names_in(cells[1])})
    for struct, kind in FORMATS.items():
        definition = schema.source_schemas()["$defs"][struct]
        settings = set(definition["properties"]) - {"kind"}
        assert {name for of, name in rows if of == kind} == settings
        for key in settings:
            check_default(struct, key, definition, rows[kind, key])


def anchors_of(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_every_link_inside_the_documentation_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file.read_text("utf-8")), target


def test_every_counter_and_state_is_explained_to_the_operator() -> None:
    agent = Path(__file__).parents[2] / "agent" / "crossdock_agent"
    code = "".join(path.read_text("utf-8") for path in agent.rglob("*.py"))
    sets = re.findall(r"counters\.(?:add|set)\(([^()]*?)[,)]", code)
    names = {name for argument in sets for name in re.findall(r'"(\w+)"', argument)}
    assert len(names) >= 38
    operating = (DOCS / "guide" / "operating.md").read_text("utf-8")
    missing = {name for name in names if f"| `{name}` |" not in operating}
    invented = set(re.findall(r"^\| `(\w+)` \| (?:now|since) \|", operating, re.MULTILINE)) - names
    states = set(re.findall(r'progress\.state = "(\w+)"|state = "(\w+)"  # running', code)) | {("running", "")}
    assert missing == invented == set()
    assert {one or other for one, other in states} <= set(re.findall(r"^\| `(\w+)` \|", operating, re.MULTILINE))
