"""The controller's own certificates, and agents that would not follow it to its next authority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossdock_controller.commands.risks.lives import RENEW_AT, SLACK
from crossdock_controller.commands.risks.risk import DAY_US, LONG_LIFE_DAYS, Risk, alarm
from crossdock_controller.commands.risks.said import duration

if TYPE_CHECKING:  # it reads keys, which weighs something
    from crossdock_controller.commands.authorities import Authorities, AuthorityView
    from crossdock_controller.store.certificates import Certificate

SERVER_LIFE_US = 30 * DAY_US
SHORT = 8  # characters of a fingerprint that people compare


def endings(known: Authorities, now_us: int) -> list[Risk]:
    """Authorities that end."""
    return [risk for one in known.authorities if (risk := _ending(one, known, now_us)) is not None]


def noted(ends_us: int, now_us: int) -> list[Risk]:
    """The first trusted authority that ends, as the running controller noted it; 0 when it did not."""
    level = alarm(ends_us - now_us, LONG_LIFE_DAYS * DAY_US) if ends_us else ""
    if not level:
        return []
    sentence = f"a certificate authority {_end(ends_us, now_us)}"
    return [Risk(level, "authority", "", ends_us, sentence, "crossdock ca says which, and how it is replaced")]


def server(ends_us: int, now_us: int) -> list[Risk]:
    """The controller's own certificate, where it was not renewed in time."""
    late_us = now_us - (ends_us - int(SERVER_LIFE_US * (1 - RENEW_AT)))
    if not ends_us or late_us <= SLACK * (1 - RENEW_AT) * SERVER_LIFE_US:
        return []
    level = alarm(ends_us - now_us, SERVER_LIFE_US) or "notice"
    sentence = f"the controller's own certificate {_end(ends_us, now_us)} and was not renewed: no agent connects then"
    step = "restart the controller, and see its log if it stays so"
    return [Risk(level, "server", "controller", ends_us, sentence, step)]


def _ending(one: AuthorityView, known: Authorities, now_us: int) -> Risk | None:
    if one.state == "retired" or not one.ends_us:
        return None
    level = alarm(one.ends_us - now_us, one.ends_us - one.made_us)
    if not level:
        return None
    return Risk(
        level, "authority", one.fingerprint[:SHORT], one.ends_us,
        f"certificate authority {one.fingerprint[:SHORT]} ({one.state}) {_end(one.ends_us, now_us)}:"
        " every certificate of it with it",
        known.next_step or "replace it in phases: crossdock ca add",
    )  # fmt: skip


def lacking(known: Authorities) -> list[Risk]:
    """Agents (and join tokens) that stand in the way of the replacement that is under way: the next phase would lock
    them out."""
    found: dict[tuple[str, str], Risk] = {}
    for one in known.authorities:
        for need in one.needed_by:
            found[need.agent, need.reason] = Risk(
                "soon", "trust", need.agent, 0,
                f"agent {need.agent or 'SITE-HOST'} {need.reason}: 'crossdock ca' waits for it", need.step,
            )  # fmt: skip
    return list(found.values())


def unissued(found: Sequence[Certificate]) -> list[Risk]:
    """Certificates of our own authorities that were never issued here."""
    return [
        Risk(
            "critical", "forged", one.agent, 0,
            f"agent {one.agent} showed a certificate of our authority {one.authority[:SHORT]} that was never issued"
            " here, unless it was while the store could not be written: somebody else may have the authority's key",
            "replace the authority at once (crossdock ca add, issue, switch, retire --force), and enrol the agent anew",
        )
        for one in found
    ]  # fmt: skip


def _end(ends_us: int, now_us: int) -> str:
    left = (ends_us - now_us) / 1e6
    return f"ends in {duration(left)}" if left > 0 else f"ended {duration(-left)} ago"
