"""What a deleted record becomes. Its key columns are filled, the others only where the source still had the old row.

A mapping says it with `deletes`: a document made of what the record still tells, with constants over it
(`{status: deleted}`), or nothing at all (`ignore`). A mapping that is silent gets a dead letter for each: a delete is
never dropped without a word, and never taken for a record whose fields are blank.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crossdock_controller.documents.base import Document
from crossdock_controller.documents.keys import key_fields
from crossdock_controller.mappings.build import Builder
from crossdock_controller.mappings.deriving import needed
from crossdock_controller.mappings.fields import Site, StructFields
from crossdock_controller.mappings.fields import Work as Compiling
from crossdock_controller.mappings.model import FieldSpec, Mapping

OP, VERSION = "$op", "$version"
DELETE = "delete"
ABOUT_THE_RECORD = {OP: "upsert", VERSION: ""}  # columns that are not the table's; what one that is absent reads as


def delete_builder(work: Compiling, model: Mapping, entity: type[Document], known: Sequence[str] | None) -> Builder:
    """Makes the document of a delete; problems go to *work*. *known*: the columns a delete fills, if that is known."""
    overrides = model.deletes or {}
    StructFields(work, entity, ("deletes",), partial=True).cells(overrides)
    required = {f.name for f in msgspec.structs.fields(entity) if f.required}
    merged = {name: _mild(name, spec, required) for name, spec in model.fields.items()} | overrides
    silent = Compiling(Site(work.site.name, work.site.source, work.site.zone), None, work.coding)
    # The problems of the fields have been told already.
    builder = Builder(entity, StructFields(silent, entity, ("fields",)).cells(merged), silent.derived)
    if model.each:
        work.problem(
            ("deletes",), "records are grouped, and a deleted one is a line rather than a document",
            "write 'deletes: ignore'",
        )  # fmt: skip
    _check_key(work, entity, overrides)
    if known is not None and not work.problems:
        _check_filled(work, merged, entity, required, known)
    return builder


def _mild(name: str, spec: FieldSpec, required: set[str]) -> FieldSpec:
    """Blank means "not told" on a delete: no default, and nothing required but what the document cannot be without."""
    if name in required:
        return spec
    return spec.model_copy(update={"default": None, "required": False})


def _check_key(work: Compiling, entity: type[Document], overrides: dict[str, FieldSpec]) -> None:
    for name in overrides:
        if name in key_fields(entity):
            work.problem(
                ("deletes", name), f"{name} is part of the key of a {entity.__name__}: this would delete another one",
                "say it in another field, such as extensions.NAMESPACE.NAME",
            )  # fmt: skip


def _check_filled(
    work: Compiling, merged: dict[str, FieldSpec], entity: type[Document], required: set[str], known: Sequence[str]
) -> None:
    """What the document needs, and what its key is made of, must come from the columns that a delete fills."""
    wanted = required.union(key_fields(entity))
    for name, spec in merged.items():
        told = (column for column in needed(spec) if not column.startswith("$"))
        column = next((column for column in told if column not in known), None)
        if name not in wanted or column is None:
            continue
        why = f"{entity.__name__} needs {name}" if name in required else f"the key of a {entity.__name__} has {name}"
        work.problem(
            ("deletes",), f"{why}, which is made of {column}; a deleted record has only {', '.join(known)}",
            f"give it a constant: deletes: {{{name}: VALUE}}" if name in required.difference(key_fields(entity))
            else "name the column in 'key' of the source, or write 'deletes: ignore'",
        )  # fmt: skip
