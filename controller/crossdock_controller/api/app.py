"""One route for all operations: prove who calls, find the operation, read the body, and carry it out on a thread.

Nothing is told to a caller who has proved nothing, not even which operations there are.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

from litestar import Litestar, Request, Response, get, post
from loguru import logger

from crossdock.complaints import Complaints
from crossdock.errors import CrossdockError, Refused, Retryable
from crossdock_controller.api import answers, openapi
from crossdock_controller.api.identify import Identifier, Unknown
from crossdock_controller.api.refusals import FAILURES, NOTE_SECONDS, NOTES, SECONDS_EACH, Buckets, Busy
from crossdock_controller.operations import carry, table
from crossdock_controller.operations.carry import Caller, Forbidden
from crossdock_controller.operations.table import Operation
from crossdock_controller.store import audit, connection, people

BODY_SECONDS = 30.0  # as long as a body may take to arrive
WORK_SECONDS = 120.0  # as long as a caller waits for an answer
CALLS_EACH = 4  # of one user at a time
WORKERS = 8
KEY = "idempotency-key"
_KEY_CHARACTERS = range(8, 101)
_T = TypeVar("_T")


class Api:
    """The calls of one web process."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier
        self._data = identifier.data
        self._failures = Buckets(FAILURES, SECONDS_EACH)
        self._notes = Buckets(NOTES, NOTE_SECONDS)
        self._running: Counter[str] = Counter()
        self._complaints = Complaints()
        self._identifying = ThreadPoolExecutor(4, "identify")  # of its own: long calls keep nobody out
        self._working = ThreadPoolExecutor(WORKERS, "operation")

    def close(self) -> None:
        self._identifying.shutdown(wait=False, cancel_futures=True)
        self._working.shutdown(wait=False, cancel_futures=True)

    async def call(self, request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        try:
            caller = await self._caller(request, name)
            return await self._called(request, name, caller)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer, and the log says it
            return answers.of(error, self._data.state)

    async def describe(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            await self._caller(request, "")
            return answers.answer(await self._on(self._working, openapi.document))
        except Exception as error:  # noqa: BLE001 - as above
            return answers.of(error)

    async def _caller(self, request: Request[Any, Any, Any], name: str) -> Caller:
        address = request.client.host if request.client else "unknown"
        header = request.headers.get("authorization", "")
        if not self._failures.left(address):
            works = await self._on(self._identifying, lambda: self._identifier.known_token(header))
            if not works:  # a token that works is never kept out by somebody else's guesses
                raise Busy("too many refused calls from this address", hint="wait a moment", after_seconds=SECONDS_EACH)
        try:
            return await self._on(self._identifying, lambda: self._identifier.caller(header))
        except Unknown as error:
            self._failures.take(address)
            await self._note(f"address:{address}", address, name, error.reason)
            raise

    async def _called(self, request: Request[Any, Any, Any], name: str, caller: Caller) -> Response[bytes]:
        operation = table.BY_NAME.get(name)
        if operation is None:
            return answers.refusal(404, "there is no such operation", "GET /v1/openapi.json lists them", "Unknown")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return answers.refusal(415, "the body must be application/json", kind="Malformed")
        if self._running[caller.user] >= CALLS_EACH:
            raise Busy(f"{caller.user} has {CALLS_EACH} calls running", hint="wait for one of them", after_seconds=1)
        self._running[caller.user] += 1
        try:
            return await self._carried_out(request, operation, caller)
        except Forbidden as error:
            await self._note(caller.actor, caller.user, name, f"no {error.reason}")
            raise
        finally:
            self._running[caller.user] -= 1
            if not self._running[caller.user]:
                del self._running[caller.user]

    async def _carried_out(
        self, request: Request[Any, Any, Any], operation: Operation, caller: Caller
    ) -> Response[bytes]:
        # Before a byte of the body is read: who may not do it may not fill our memory either.
        await self._on(self._working, lambda: carry.permitted(operation, self._data, caller))
        body = await self._body(request, operation)
        if body is None:
            return answers.refusal(
                413, f"{operation.name} takes {operation.body_bytes} bytes at most", kind="Malformed"
            )
        key = request.headers.get(KEY, "")
        if key and operation.changes:
            await self._on(self._working, lambda: self._first_time(caller, operation, key))
        work = self._on(self._working, lambda: carry.carry_out(operation, self._data, caller, body))
        try:
            return answers.answer(await asyncio.wait_for(asyncio.shield(work), WORK_SECONDS))
        except TimeoutError:
            raise Retryable(
                f"{operation.name} takes longer than {WORK_SECONDS:.0f} s and goes on without this answer",
                hint="look whether it was done before you do it again: crossdock audit",
            ) from None

    async def _body(self, request: Request[Any, Any, Any], operation: Operation) -> bytes | None:
        """None when it is too long. Raises Malformed when it does not arrive."""
        announced = request.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > operation.body_bytes:
            return None
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > operation.body_bytes:
                        return None
                    parts.append(part)
        except TimeoutError:
            raise carry.Malformed(
                f"the body did not arrive within {BODY_SECONDS:.0f} s", hint="send it again"
            ) from None
        return b"".join(parts)

    def _first_time(self, caller: Caller, operation: Operation, key: str) -> None:
        """Raises Refused when the same call was made before: made again by mistake, it must not be done twice."""
        if len(key) not in _KEY_CHARACTERS or not key.isascii() or not key.isprintable():
            raise carry.Malformed(f"{KEY} has 8 to 100 printable characters", hint="a random UUID is a good one")
        now_us = time.time_ns() // 1000
        with closing(connection.connect(self._data.state)) as db, connection.transaction(db):
            first = people.note_call(db, caller.user, key, operation.name, now_us)
        if not first:
            raise Refused(
                f"this {operation.name} was asked for before, by the same {KEY}",
                hint="'crossdock audit' shows what became of it; a new call needs a new key",
            )

    async def _note(self, actor: str, group: str, name: str, reason: str) -> None:
        """A refused call, for the audit log; of many from one place only some, and how many were left out."""
        if not self._notes.take(group):
            return
        missed = self._notes.missed(group)
        details = {"reason": reason, **({"left_out": missed} if missed else {})}
        target = name if name in table.BY_NAME else ""

        def note() -> None:
            now_us = time.time_ns() // 1000
            with closing(connection.connect(self._data.state)) as db, connection.transaction(db):
                audit.append(db, actor=actor, action="api.refuse", target=target, details=details, now_us=now_us)

        try:
            await self._on(self._identifying, note)
        except (sqlite3.Error, CrossdockError) as error:  # refused it is all the same
            self._complaints.make("api", f"a refused call is not in the audit log: {error}")

    async def _on(self, threads: ThreadPoolExecutor, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)


def make(api: Api) -> Litestar:
    """The application: two routes. Whatever else is asked for is not there, in the same words."""

    @post("/v1/{name:str}", status_code=200)
    async def operation(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        return await api.call(request, name)

    @get("/v1/openapi.json")
    async def description(request: Request[Any, Any, Any]) -> Response[bytes]:
        return await api.describe(request)

    def failed(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        return answers.of(error)

    logger.debug("{} operations are served", len(table.OPERATIONS))
    return Litestar(
        [operation, description],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: failed},
        request_max_body_size=max(o.body_bytes for o in table.OPERATIONS),
        on_shutdown=[api.close],
    )
