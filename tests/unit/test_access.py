"""Roles and selectors as values."""

from __future__ import annotations

import pytest

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Grant, reach, role_of, selector_of

LABELS = {"atl1": {"region": "us", "env": "prod"}, "rtm1": {"region": "eu", "env": "prod"}}


def labels(site: str) -> dict[str, str]:
    return LABELS.get(site, {})


def test_a_selector_is_stored_in_one_form() -> None:
    assert selector_of(" region = us , env=prod") == "env=prod,region=us"
    assert selector_of("all") == "all"


@pytest.mark.parametrize("text", ["", "region", "region=", "=us", "a=b,a=c", "all,region=us", "Region=us", "a=b,,"])
def test_what_selects_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="selects no sites"):
        selector_of(text)


def test_a_word_that_is_no_role_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        role_of("enginer")
    assert "engineer" in caught.value.hint


@pytest.mark.parametrize(
    ("selector", "sites"),
    [
        ("all", ["atl1", "rtm1", "nowhere"]),
        ("region=us", ["atl1"]),
        ("env=prod", ["atl1", "rtm1"]),
        ("env=prod,region=eu", ["rtm1"]),
        ("site=nowhere", ["nowhere"]),
        ("region=us,site=rtm1", []),
    ],
)
def test_a_grant_holds_at_the_sites_that_carry_every_label(selector: str, sites: list[str]) -> None:
    grant = Grant("viewer", selector)
    assert [site for site in ("atl1", "rtm1", "nowhere") if grant.selects(site, labels)] == sites


def test_a_role_includes_those_below_it_and_only_where_it_was_granted() -> None:
    grants = [Grant("engineer", "region=us"), Grant("viewer", "all")]
    viewer, engineer = reach(grants, "viewer", labels), reach(grants, "engineer", labels)
    assert viewer is not None
    assert engineer is not None
    assert viewer.everything
    assert not engineer.everything
    assert (engineer("atl1"), engineer("rtm1"), engineer("nowhere")) == (True, False, False)
    assert reach(grants, "admin", labels) is None
    assert reach([], "viewer", labels) is None
    assert EVERYWHERE("whatever")


def test_a_site_cannot_call_itself_another_by_a_label() -> None:
    grant = Grant("viewer", "site=atl1")
    assert not grant.selects("rtm1", lambda _site: {"site": "atl1"})
