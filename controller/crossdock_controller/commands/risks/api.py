"""The admin API: tokens that end, and the certificate that it shows, whoever made it."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from crossdock_controller.commands.risks.risk import DAY_US, Risk, alarm
from crossdock_controller.commands.risks.said import duration
from crossdock_controller.store.people import TokenRow

SHORT_US = 7 * DAY_US  # a token that was made for less is meant to end
ANSWER_SECONDS = 1.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one listens that listens everywhere


def tokens(found: Sequence[TokenRow], now_us: int) -> list[Risk]:
    """Tokens made for a week or longer that are about to end, or ended in the last week while they were in use."""
    risks = []
    for row in found:
        life_us = row.expires_us - row.created_us
        if row.revoked_us or life_us < SHORT_US:
            continue
        left_us = row.expires_us - now_us
        level = alarm(left_us, life_us)
        if not level or (level == "locked" and (left_us < -SHORT_US or row.last_used_us < row.expires_us - SHORT_US)):
            continue
        ends = f"ends in {duration(left_us / 1e6)}" if left_us > 0 else f"ended {duration(-left_us / 1e6)} ago"
        used = "" if row.last_used_us else "; it was never used"
        risks.append(
            Risk(
                level, "api_token", row.id, row.expires_us,
                f"API token {row.id} of {row.user} ({row.name or 'unnamed'}) {ends}{used}",
                "make a new one for whoever uses it: crossdock users token create",
            )
        )  # fmt: skip
    return risks


def certificate(address_file: Path, now_us: int) -> list[Risk]:
    """What the running API shows to whoever connects; nothing when none runs."""
    shown = _shown(address_file)
    if shown is None:
        return []
    url, made_us, ends_us = shown
    level = alarm(ends_us - now_us, ends_us - made_us)
    third = (ends_us - made_us) / 3  # ours is made anew at two thirds of its life
    if not level or ends_us - now_us > third * 0.9:
        return []
    left_us = ends_us - now_us
    ends = f"ends in {duration(left_us / 1e6)}" if left_us > 0 else f"ended {duration(-left_us / 1e6)} ago"
    return [
        Risk(
            level, "api", "API", ends_us,
            f"the certificate of the API at {url} {ends}: commands and browsers refuse it then",
            "replace its files, which are read anew; one of our own authority should have been: restart the controller",
        )
    ]  # fmt: skip


def _shown(address_file: Path) -> tuple[str, int, int] | None:
    """(its URL, from when, until when its certificate is valid); None when nothing answers there."""
    from cryptography import x509

    try:
        url = str(json.loads(address_file.read_text("utf-8"))["url"])
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is read, and nothing is sent
        with (
            socket.create_connection((_ANY.get(host, host), parts.port or 443), ANSWER_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        found = x509.load_der_x509_certificate(der or b"")
    except (OSError, ValueError, KeyError, TypeError):  # no API, or none that runs
        return None
    made, ends = found.not_valid_before_utc, found.not_valid_after_utc
    return url, int(made.timestamp() * 1e6), int(ends.timestamp() * 1e6)
