"""Sink "http": one request a document, or a batch of them. A 2xx answer, read to its end, is the only "done"; no answer
is no verdict.

Every attempt of a document carries the same Idempotency-Key. Versions of one key go over one connection, one after the
other; `concurrency` spreads different keys over several.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

from crossdock.errors import Rejected, SinkUnavailable
from crossdock_controller.sinks import http_batch
from crossdock_controller.sinks.base import Outgoing, Sink, SinkContext, Verdict, register
from crossdock_controller.sinks.http_auth import NoToken, Signer
from crossdock_controller.sinks.http_batch import BatchSettings
from crossdock_controller.sinks.http_body import BodyMaker
from crossdock_controller.sinks.http_exchange import Exchange, NoAnswer, Unreachable
from crossdock_controller.sinks.http_settings import (
    HttpSettings,
    added_query,
    fill,
    resolved_headers,
    tls_of,
    tokens_of,
)
from crossdock_controller.sinks.http_verdicts import Answer, stops_the_rest, verdict

RUN_SIZE = 200
RUN_SECONDS = 20.0  # a run that takes longer is cut: the rest is due again at once, and leases stay short
SILENCES = 3  # so many requests in a row without an answer, and the rest of the run waits


class HttpSink:
    def __init__(self, settings: HttpSettings, context: SinkContext, wall: Callable[[], float] = time.time) -> None:
        self._settings, self._wall = settings, wall
        self._headers, self._secrets = resolved_headers(settings.headers, context)
        self._key_suffix = "-" + quote(context.name, safe="")
        parts = urlsplit(settings.url)
        added, secrets = added_query(settings.query, context)
        self._secrets += secrets
        query = "&".join(part for part in (parts.query, added) if part)
        self._target = (parts.path or "/") + (f"?{query}" if query else "")
        self._make = BodyMaker(settings.body) if settings.body is not None else None
        self._signer = Signer(settings.sign, context, wall) if settings.sign is not None else None
        if self._signer is not None:
            self._secrets += (self._signer.secret,)
        self._tokens = tokens_of(settings, context)
        tls = tls_of(settings, context) if parts.scheme == "https" else None
        port = parts.port or (443 if tls is not None else 80)
        host = parts.hostname or ""
        self._exchanges = [
            Exchange(parts.scheme, host, port, settings.timeout_seconds, tls) for _ in range(settings.concurrency)
        ]
        self._pool: ThreadPoolExecutor | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        until = time.monotonic() + RUN_SECONDS
        shares: list[list[int]] = [[] for _ in self._exchanges]
        for position, delivery in enumerate(run):
            shares[_share(delivery, len(shares))].append(position)
        verdicts: dict[int, Verdict] = {}
        if len(shares) == 1:
            verdicts = self._deliver(self._exchanges[0], run, shares[0], until)
        else:
            pool = self._pool = self._pool or ThreadPoolExecutor(len(shares), "http-sink")
            for part in pool.map(self._deliver, self._exchanges, [run] * len(shares), shares, [until] * len(shares)):
                verdicts.update(part)
        unreachable = [v for v in verdicts.values() if v.code in ("unreachable", "no_token")]
        if unreachable and all(v.code in ("unreachable", "no_token", "held") for v in verdicts.values()):
            raise SinkUnavailable(unreachable[0].reason)
        return [verdicts[position] for position in range(len(run))]

    def check(self) -> str:
        """Connects, and over TLS verifies the certificate; sends no request, which could have an effect. With `oauth`
        a token is fetched."""
        exchange = self._exchanges[0]
        try:
            said = exchange.connect()
            if self._tokens is not None:
                self._tokens.token()
                said += ", token received"
            return said
        finally:
            exchange.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._tokens is not None:
            self._tokens.close()
        for exchange in self._exchanges:
            exchange.close()

    def _deliver(
        self, exchange: Exchange, run: Sequence[Outgoing], share: list[int], until: float
    ) -> dict[int, Verdict]:
        """Verdicts of the deliveries at the positions in *share*, sent one after the other."""
        verdicts: dict[int, Verdict] = {}
        blocked: set[tuple[str, str]] = set()
        rest: Verdict | None = None
        silences = 0
        most = self._settings.batch.max if self._settings.batch is not None else 1
        for batch in http_batch.batches(run, share, most):
            if rest is None and time.monotonic() > until:
                rest = Verdict("retry", "held", "not sent: the run took its full time", 0.0)
            free = []
            for position in batch:
                if rest is not None or (run[position].document, run[position].key) in blocked:
                    verdicts[position] = rest or Verdict("retry", "held", "an earlier version of it is not done")
                else:
                    free.append(position)
            if not free:
                continue
            found = self._sent(exchange, [run[position] for position in free])
            for position, said in zip(free, found, strict=True):
                verdicts[position] = said
                if said.outcome != "done":
                    blocked.add((run[position].document, run[position].key))
            silences = silences + 1 if found[0].code in ("timeout", "half_answer", "closed", "bad_answer") else 0
            stop = next((said for said in found if stops_the_rest(said)), found[0] if silences == SILENCES else None)
            if stop is not None:
                rest = Verdict("retry", "held", f"not sent: {stop.reason}", stop.after_seconds)
        return verdicts

    def _sent(self, exchange: Exchange, run: Sequence[Outgoing]) -> list[Verdict]:
        return [self._one(exchange, run[0])] if self._settings.batch is None else self._batch(exchange, run)

    def _one(self, exchange: Exchange, delivery: Outgoing) -> Verdict:
        try:
            target = self._filled(delivery)
            body = self._make(delivery.body) if self._make is not None else delivery.body
        except Rejected as error:
            return Verdict("rejected", error.code, str(error))
        headers = {
            "Idempotency-Key": self._identity(delivery),
            "Crossdock-Document": quote(delivery.document),
            "Crossdock-Sequence": str(delivery.sequence),
        }
        if delivery.replay:
            headers["Crossdock-Replay"] = str(delivery.replay)
        answer = self._answered(exchange, target, headers, body)
        return answer if isinstance(answer, Verdict) else self._judged(answer)

    def _batch(self, exchange: Exchange, run: Sequence[Outgoing]) -> list[Verdict]:
        """One request for all of *run*; a batch that is refused as a whole is sent again in halves."""
        settings = self._settings.batch or BatchSettings()
        verdicts: dict[int, Verdict] = {}
        made: list[tuple[Outgoing, bytes]] = []
        for position, delivery in enumerate(run):
            try:
                made.append((delivery, self._make(delivery.body) if self._make is not None else delivery.body))
            except Rejected as error:
                verdicts[position] = Verdict("rejected", error.code, str(error))
        if made:
            good = [position for position in range(len(run)) if position not in verdicts]
            verdicts.update(zip(good, self._halved(exchange, settings, made), strict=True))
        return [verdicts[position] for position in range(len(run))]

    def _halved(
        self, exchange: Exchange, settings: BatchSettings, made: Sequence[tuple[Outgoing, bytes]]
    ) -> list[Verdict]:
        ids = [self._identity(delivery) for delivery, _ in made]
        headers = {"Idempotency-Key": http_batch.identity(ids), "Crossdock-Documents": str(len(made))}
        answer = self._answered(exchange, self._target, headers, http_batch.body(settings, made, ids))
        if isinstance(answer, Verdict):
            return [answer] * len(made)
        whole = self._judged(answer)
        if f"http_{answer.status}" in http_batch.SPLIT and len(made) > 1:
            middle = len(made) // 2
            first = self._halved(exchange, settings, made[:middle])
            stop = next((said for said in first if stops_the_rest(said)), None)
            if stop is not None:
                return [*first, *[Verdict("retry", "held", f"not sent: {stop.reason}")] * (len(made) - middle)]
            return [*first, *self._halved(exchange, settings, made[middle:])]
        if whole.outcome != "done" or answer.status == 409:  # of one document: the receiver has it
            return [whole] * len(made)
        told = http_batch.statuses(settings, answer, len(made))
        if isinstance(told, Verdict):
            return [told] * len(made)
        return [self._judged(Answer(status, None, None, None, said)) for status, said in told]

    def _answered(self, exchange: Exchange, target: str, headers: dict[str, str], body: bytes) -> Answer | Verdict:
        """The answer, or why there is none. A token that is refused is replaced once."""
        try:
            answer, token = self._asked(exchange, target, headers, body)
            if answer.status == 401 and self._tokens is not None:
                self._tokens.refused(token)
                answer, _ = self._asked(exchange, target, headers, body)
        except (Unreachable, NoToken) as error:
            return Verdict("retry", "no_token" if isinstance(error, NoToken) else "unreachable", str(error))
        except NoAnswer as error:
            return Verdict("retry", error.code, error.message)
        return answer

    def _asked(self, exchange: Exchange, target: str, headers: dict[str, str], body: bytes) -> tuple[Answer, str]:
        sent = self._headers | {"Content-Type": "application/json"} | headers
        token = ""
        if self._tokens is not None:
            token = self._tokens.token()
            sent["Authorization"] = f"Bearer {token}"
        if self._signer is not None:
            sent |= self._signer.headers(body)
        return exchange.send(self._settings.method, target, sent, body), token

    def _judged(self, answer: Answer) -> Verdict:
        secrets = self._secrets + (self._tokens.secrets if self._tokens is not None else ())
        return verdict(answer, conflict_is_done=self._settings.conflict_is_done, now=self._wall(), secrets=secrets)

    def _identity(self, delivery: Outgoing) -> str:
        return delivery.event_id.hex() + self._key_suffix + _again(delivery)

    def _filled(self, delivery: Outgoing) -> str:
        """Raises Rejected for a key that would name another path: ".." survives percent-encoding on many servers."""
        if delivery.key.strip(".") == "" and "{key}" in self._target:
            raise Rejected("bad_key", f"key {delivery.key!r} cannot stand in a URL", field="key")
        return fill(self._target, delivery.key, delivery.document)


def _again(delivery: Outgoing) -> str:
    """What was done before and is sent again on purpose has a key of its own, or the receiver would leave it out."""
    return f"-r{delivery.replay}" if delivery.replay else ""


def _share(delivery: Outgoing, shares: int) -> int:
    return zlib.crc32(f"{delivery.document}\0{delivery.key}".encode()) % shares


def _create(settings: HttpSettings, context: SinkContext) -> Sink:
    return HttpSink(settings, context)


register("http", HttpSettings, _create, run_size=RUN_SIZE)
