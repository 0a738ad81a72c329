"""Deleted records among the others: set apart before anything is grouped or mapped, and mapped as deletes."""

from __future__ import annotations

from crossdock_controller.formats.base import Decoded
from crossdock_controller.mappings.assemble import Failure, Work, failure_of
from crossdock_controller.mappings.build import Builder
from crossdock_controller.mappings.deletes import DELETE, OP

UNMAPPED = Failure(
    "delete_unmapped",
    "the record was deleted at its source, and the mapping does not say what that means"
    " (add 'deletes' to the mapping, apply it, then retry)",
    "",
)
IGNORED = "deleted at its source; the mapping ignores deletes"


def split(decoded: Decoded) -> tuple[Decoded, Decoded | None]:
    """Upserts and deletes, each in order."""
    if OP not in decoded.columns or decoded.objects is not None:
        return decoded, None
    ops = decoded.column(OP)
    if DELETE not in ops:
        return decoded, None
    gone = [i for i, op in enumerate(ops) if op == DELETE]
    return decoded.select([i for i, op in enumerate(ops) if op != DELETE]), decoded.select(gone)


def made(builder: Builder, rows: Decoded) -> Work:
    """A document for each of *rows*, all deletes. Rules are not asked: they are about what a document holds."""
    n = len(rows.rows)
    built = builder.build({name: rows.column(name) for name in builder.columns}, n, text_only=False)
    work = Work(built.structs, range(n), range(1, n + 1), warnings=built.warnings)
    for i, errors in built.errors.items():
        told = "; ".join(str(error) for error in errors)
        hint = f"the record was deleted at its source: {told} (give the field a constant in 'deletes')"
        work.failures[i] = failure_of(errors[0], hint, i)
    return work


def refused(rows: Decoded, failure: Failure) -> Work:
    n = len(rows.rows)
    return Work([None] * n, range(n), range(1, n + 1), dict.fromkeys(range(n), failure))


def is_delete(row: dict[str, object]) -> bool:
    return row.get(OP) == DELETE
