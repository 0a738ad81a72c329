"""The SQL of change logs, dialect by dialect, as a person reviews it. One golden file each in tests/golden/sql.

After a wanted change, `CROSSDOCK_GOLDEN=write pytest tests/unit/test_sql_triggers.py` writes them; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock_agent.sql.installing import render
from crossdock_agent.sql.triggers import module_of
from crossdock_agent.sql.triggers.plan import MAX_NAME, Logged, Plan, cut, log_name

GOLDEN = Path(__file__).parents[1] / "golden" / "sql"
COLUMNS = {
    "sqlite": ("", ["INTEGER", "VARCHAR(12)", "NUMERIC", ""]),
    "postgresql": ("sales", ["bigint", "character(12)", "numeric(12,3)", "timestamp without time zone"]),
    "mariadb": ("sales", ["bigint(20)", "char(12) CHARACTER SET latin1 COLLATE latin1_german1_ci", "decimal(12,3)",
                          "datetime(6)"]),
    "mysql": ("sales", ["bigint", "char(12) CHARACTER SET latin1 COLLATE latin1_german1_ci", "decimal(12,3)",
                        "datetime(6)"]),
    "sqlserver": ("dbo", ["bigint", "nvarchar(12) COLLATE Latin1_General_CI_AS", "decimal(12,3)", "datetime2(7)"]),
    "oracle": ("SALES", ["NUMBER(19,0)", "VARCHAR2(12 BYTE)", "NUMBER(12,3)", "DATE"]),
}  # fmt: skip
NAMES = ["order no", "sku", "quantity", "changed_at"]


def plan(dialect: str, present: dict[str, str] | None = None) -> Plan:
    schema, types = COLUMNS[dialect]
    mark = "`" if dialect in {"mariadb", "mysql"} else '"'
    columns = tuple(Logged(name, kind) for name, kind in zip(NAMES, types, strict=True))
    return Plan(
        dialect, lambda name: f"{mark}{name.replace(mark, mark * 2)}{mark}", schema, "order_lines",
        log_name("order_lines"), columns, ("order no", "sku"), present,
        None if dialect == "sqlite" else "reader",
    )  # fmt: skip


@pytest.mark.parametrize("dialect", list(COLUMNS))
def test_the_sql_of_a_change_log_is_what_was_reviewed(dialect: str) -> None:
    templates, fresh = module_of(dialect), plan(dialect)
    had = dict(zip(NAMES[:3], COLUMNS[dialect][1], strict=False))
    amended = plan(dialect, {**had, "sku": "char(3)", "crossdock_seq": "bigint", "gone": "date"})
    found = "".join(
        f"-- {what}\n{render(dialect, statements)}\n"
        for what, statements in (
            ("install", templates.install(fresh)),
            ("amend: changed_at was added, sku has another type, a column was dropped", templates.install(amended)),
            ("remove", [*templates.detach(fresh), *templates.drop(fresh)]),
            ("look: columns, triggers", [templates.COLUMNS, templates.INSTALLED]),
        )
    )
    path = GOLDEN / f"changelog-{dialect}.sql"
    if os.environ.get("CROSSDOCK_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8", newline="\n")
    assert found == path.read_text(encoding="utf-8")


def test_a_change_of_any_column_key_or_name_is_seen_in_the_fingerprint() -> None:
    first = plan("postgresql")
    others = [
        Plan(first.dialect, first.quote, first.schema, first.table, first.log, first.columns[:3], first.key),
        Plan(first.dialect, first.quote, first.schema, first.table, first.log, first.columns, ("sku",)),
        Plan(first.dialect, first.quote, first.schema, first.table, "other", first.columns, first.key),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = cut("crossdock_" + "x" * 80 + "a"), cut("crossdock_" + "x" * 80 + "b")
    assert one != other
    assert len(one.encode()) <= MAX_NAME
    assert len(cut("ü" * 50).encode()) <= MAX_NAME


def test_a_dialect_without_templates_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="dbase"):
        module_of("dbase")
