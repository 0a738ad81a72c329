"""From an HTTP answer to a verdict. Pure: only a 2xx is done; what is unclear is sent again, never counted as done.

Status meanings are those of RFC 9110 section 15; Retry-After is section 10.2.3, in both of its forms.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from crossdock_controller.sinks.base import DONE, Verdict

_REASON_BYTES = 500
_MAX_WAIT_SECONDS = 24 * 3600.0  # no server's answer parks a document for longer than a day

# The sink, not the document, is at fault: credentials that have expired must not turn a backlog into dead letters.
_CREDENTIALS = (401, 407)
_LATER = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; *body* may be cut at the limit."""

    status: int
    retry_after: str | None
    date: str | None
    location: str | None
    body: bytes


def verdict(answer: Answer, *, conflict_is_done: bool, now: float, secrets: tuple[str, ...] = ()) -> Verdict:
    """What *answer* says of the delivery. *now* is in seconds since the epoch; *secrets* never appear in the reason."""
    status, code = answer.status, f"http_{answer.status}"
    if 200 <= status < 300 or (status == 409 and conflict_is_done):
        return DONE
    said = excerpt(answer.body, secrets)
    if status in _LATER or status >= 500:
        wait = retry_after_seconds(answer.retry_after, answer.date, now)
        return Verdict("retry", code, _sentence(status, said), wait)
    if status in _CREDENTIALS:
        return Verdict("retry", code, _sentence(status, said) + "; check the secret in the sink's headers")
    if 300 <= status < 400:
        target = excerpt((answer.location or "nowhere").encode(), secrets)
        return Verdict("retry", code, f"the sink redirects to {target}; set 'url' to the final address")
    if 400 <= status < 500:
        return Verdict("rejected", code, _sentence(status, said))
    return Verdict("retry", code, f"the sink answered with the unknown status {status}")


def stops_the_rest(found: Verdict) -> bool:
    """True when the answer speaks of the sink as a whole: sending more now is useless, or unwelcome."""
    return found.outcome == "retry" and (
        found.after_seconds is not None or found.code in ("http_401", "http_407", "http_429", "unreachable", "no_token")
    )


def retry_after_seconds(value: str | None, date: str | None, now: float) -> float | None:
    """Seconds to wait, or None when *value* is absent or neither of the two forms.

    A date is compared with the server's own Date header when it sent one, so that two clocks that differ do no harm.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _MAX_WAIT_SECONDS)
    until = _epoch(value)
    if until is None:
        return None
    since = _epoch(date) if date is not None else None
    return min(max(0.0, until - (since if since is not None else now)), _MAX_WAIT_SECONDS)


def excerpt(body: bytes, secrets: tuple[str, ...] = ()) -> str:
    """The beginning of *body* on one line, safe to print: no control or format characters, no secret."""
    text = body[:_REASON_BYTES].decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    clean = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)
    return " ".join(clean.split())


def _sentence(status: int, said: str) -> str:
    return f"the sink answered {status}: {said}" if said else f"the sink answered {status} without a reason"


def _epoch(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
