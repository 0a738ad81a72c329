"""The controller's own certificates, and agents that would not follow it to its next authority."""

from __future__ import annotations

from collections.abc import Sequence

from crossdock_controller.commands.authorities import Authorities, AuthorityView
from crossdock_controller.commands.risks.lives import RENEW_AT, SLACK
from crossdock_controller.commands.risks.risk import DAY_US, Risk, alarm
from crossdock_controller.commands.risks.said import duration

SERVER_LIFE_US = 30 * DAY_US
SHORT = 8  # characters of a fingerprint that people compare


def endings(known: Authorities, now_us: int) -> list[Risk]:
    """Authorities that end, and the controller's certificate when it was not renewed in time."""
    found = [risk for one in known.authorities if (risk := _ending(one, known, now_us)) is not None]
    ends_us = known.server_ends_us
    late_us = now_us - (ends_us - int(SERVER_LIFE_US * (1 - RENEW_AT)))
    if ends_us and late_us > SLACK * (1 - RENEW_AT) * SERVER_LIFE_US:
        level = alarm(ends_us - now_us, SERVER_LIFE_US) or "notice"
        left = f"ends in {duration((ends_us - now_us) / 1e6)}" if ends_us > now_us else "has ended"
        found.append(
            Risk(
                level, "server", "controller", ends_us,
                f"the controller's own certificate {left} and was not renewed: no agent could connect then",
                "restart the controller, and see its log if it stays so",
            )
        )  # fmt: skip
    return found


def _ending(one: AuthorityView, known: Authorities, now_us: int) -> Risk | None:
    if one.state == "retired" or not one.ends_us:
        return None
    level = alarm(one.ends_us - now_us, one.ends_us - one.made_us)
    if not level:
        return None
    left_us = one.ends_us - now_us
    ends = f"ends in {duration(left_us / 1e6)}" if left_us > 0 else f"ended {duration(-left_us / 1e6)} ago"
    return Risk(
        level, "authority", one.fingerprint[:SHORT], one.ends_us,
        f"certificate authority {one.fingerprint[:SHORT]} ({one.state}) {ends}: every certificate of it with it",
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


def all_of(known: Authorities, now_us: int) -> Sequence[Risk]:
    return [*endings(known, now_us), *lacking(known)]
