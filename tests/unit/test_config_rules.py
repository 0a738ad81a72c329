"""Secrets and variables: what is found, what is let through, and what never shows."""

from __future__ import annotations

import pytest

from crossdock_controller.config import variables
from crossdock_controller.config.models import Site
from crossdock_controller.config.secrets import masked, plain_secrets


@pytest.mark.parametrize(
    "settings",
    [
        {"connection": {"odbc": "Driver={X};UID=app;PWD=hunter2;"}},
        {"connection": {"odbc": "Driver=X;Password = hunter2"}},
        {"connection": {"odbc": "password=hunter2;Server=x"}},
        {"connection": {"odbc": "DSN=x;pwd={hunter2}"}},
        {"url": "postgresql://app:hunter2@db/finance"},
        {"password": "hunter2"},
        {"db_password": "hunter2"},
        {"api_key": 12345},
        {"headers": {"Authorization": "Bearer hunter2"}},
        {"headers": {"X-Api-Key": "hunter2"}},
        {"note": "Bearer hunter2"},
        {"list": [{"token": "hunter2"}]},
        {"headers": {"Authorization": "Bearer {secret:hunter2}"}},
        {"connection": {"odbc": "DSN=x;PWD=secret:hunter2"}},
    ],
)
def test_a_secret_written_out_is_found_and_never_repeated(settings: dict[str, object]) -> None:
    ((path, message, hint),) = plain_secrets(settings)
    assert path[0] == next(iter(settings))
    assert "hunter2" not in message + hint
    assert "12345" not in message + hint
    assert "secret:" in hint or "leave it out of the address" in hint


@pytest.mark.parametrize(
    "settings",
    [
        {"connection": {"odbc": "Driver={PostgreSQL Unicode};UID=app;PWD={secret:wms-db};"}},
        {"connection": {"odbc": "DSN=x;Password={secret:wms-db}"}},
        {"connection": {"odbc": "DSN=x;PWD="}},
        {"connection": {"odbc": "DSN=x;Trusted_Connection=yes"}},
        {"url": "postgresql://app@db/finance"},
        {"url": "https://shop.example/api:8080/x@y"},
        {"password": "secret:finance-db"},
        {"headers": {"Authorization": "secret:webshop"}},
        {"tables": {"SalesOrder": {"columns": {"api_key": "reference", "token": "number"}}}},
        {"password": None},
        {"tokens": 5, "key": ["ORDER_NO"], "secretary": "Ms. Lane", "retry": True},
    ],
)
def test_references_and_harmless_settings_are_let_through(settings: dict[str, object]) -> None:
    assert list(plain_secrets(settings)) == []


def test_a_diff_shows_stars_for_what_looks_like_a_secret() -> None:
    assert masked(("password",), "hunter2") == "***"
    assert masked(("password",), "secret:finance") == "secret:finance"
    assert masked(("directory",), "D:/out") == "D:/out"


def test_variables_are_put_into_texts_at_any_depth_once() -> None:
    site = Site(site="atl1", variables={"root": "D:/wms", "twice": "${root}"})
    settings = {"directory": "${root}/${site}/out", "list": ["$${root}", "${twice}", 5], "none": None}
    assert variables.substitute(settings, variables.values_of(site)) == {
        "directory": "D:/wms/atl1/out",
        "list": ["${root}", "${root}", 5],
        "none": None,
    }


def test_a_reference_to_nothing_is_found_with_its_path() -> None:
    found = list(variables.unknown({"a": ["x${rot}"], "b": "$${rot}", "c": "${root", "d": "$5"}, {"root": "x"}))
    assert found == [
        (("a", 0), "unknown variable ${rot}", "did you mean 'root'?"),
        (("c",), "a variable is opened with '${' and not closed", "write ${name}, or $${ for the two characters"),
    ]
