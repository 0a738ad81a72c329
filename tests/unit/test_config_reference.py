"""The reference page names every key there is, and its examples are what it says they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from crossdock import yamlfile
from crossdock_controller.conditions.lint import lint
from crossdock_controller.conditions.vocabulary import Vocabulary
from crossdock_controller.config import schema
from crossdock_controller.config.models import Budget, OutboxLimits, Route, Schedule, SinkDef, Site, Source
from crossdock_controller.config.vocabulary import document_fields
from crossdock_controller.documents.base import entities
from crossdock_controller.formats.base import kinds as format_kinds
from crossdock_controller.mappings.converters import converters
from crossdock_controller.mappings.model import RULES, FieldSpec, Mapping
from crossdock_controller.sinks.base import kinds as sink_kinds

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def keys_of(model: Any) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def documented() -> list[str]:
    keys = [key for model in (Site, Source, Route, SinkDef, Mapping, FieldSpec) for key in keys_of(model)]
    keys += [f"outbox.{key}" for key in keys_of(OutboxLimits)]
    keys += [f"schedule.{key}" for key in keys_of(Schedule)] + [f"budget.{key}" for key in keys_of(Budget)]
    keys += [key for kind in schema.source_kinds() for key in schema.setting_names(kind)]
    keys += [f"connection.{key}" for key in schema.source_schemas()["$defs"]["Connection"]["properties"]]
    keys += [key for kind in sink_kinds().values() for key in keys_of(kind.settings)]
    keys += [key for name, kind in format_kinds().items() if name != "rows" for key in keys_of(kind.settings)]
    keys += [*sink_kinds(), *schema.source_kinds(), *entities(), *converters(), *RULES]
    not_written = {"lines", "lines_of", "deletes_ignored"}  # as the model holds what is written otherwise
    elsewhere = {"settings", "options", "outbox", "connection", *not_written}  # described by their parts
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
