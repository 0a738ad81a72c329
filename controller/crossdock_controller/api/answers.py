"""What a caller gets: JSON in all cases, and an error always as {"error", "hint", "kind"} with a fitting status."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from loguru import logger

from crossdock.errors import ConfigError, Corrupt, CrossdockError, Refused, Rejected, Retryable
from crossdock_controller.api.identify import Unknown
from crossdock_controller.api.refusals import Busy
from crossdock_controller.operations.carry import Forbidden, Malformed
from crossdock_controller.operations.plain import encode
from crossdock_controller.store import faults

# For every answer, those of the server itself included. No CORS header: no page of a browser may ask.
HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)
_STATUS: tuple[tuple[type[CrossdockError], int], ...] = (  # the first that fits
    (Unknown, 401),
    (Forbidden, 403),
    (Malformed, 400),
    (Rejected, 422),
    (ConfigError, 422),
    (Refused, 409),
    (Busy, 429),
    (Retryable, 503),
    (Corrupt, 500),
)


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=dict(headers or {}))


def refusal(
    status: int, error: str, hint: str = "", kind: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> Response[bytes]:
    body = {"error": error, "hint": hint, "kind": kind, **more}
    return answer(msgspec.json.encode(body), status, headers)


def of(error: BaseException, store: Path = Path("state.db")) -> Response[bytes]:
    """The answer to a call that failed with *error*. What nobody expected is told as that and logged in full."""
    error = faults.of(error, store) or error
    if isinstance(error, CrossdockError):
        return _of_ours(error)
    if isinstance(error, HTTPException):
        return refusal(error.status_code, error.detail or "not possible", kind="Http")
    logger.opt(exception=error).error("a call of the API failed unexpectedly")
    return refusal(500, "the controller failed unexpectedly", "its log says more", "Unexpected")


def _of_ours(error: CrossdockError) -> Response[bytes]:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers, more = {}, {}
    if isinstance(error, Unknown):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Retryable):
        headers["retry-after"] = str(max(1, round(error.after_seconds or 1)))
    if isinstance(error, Rejected):
        more = {"code": error.code, "field": error.field}
    problems = getattr(error, "problems", None)  # a tree with errors
    if problems is not None:
        more = {"problems": encode(list(problems))}
    return refusal(status, error.message, error.hint, type(error).__name__, headers, **more)
