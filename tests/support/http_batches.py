"""A receiver that takes several documents a request and answers for each, and a token server beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote_plus

from support.certificates import Pair
from support.http_sink import Fault, HttpReceiver, Received


class BatchReceiver(HttpReceiver):
    """Knows each document by its `id`, as a good receiver does. Scripted faults are for whole requests; those for a key
    are for its document alone."""

    def take(self, received: Received) -> Fault | None:
        with self._lock:
            self.requests.append(received)
            if self._next:
                return self._next.popleft()
            items = json.loads(received.body)["items"]
            return Fault(200, body=json.dumps({"results": [self._item(item) for item in items]}).encode())

    def _item(self, item: Mapping[str, object]) -> dict[str, object]:
        key, identity = str(item["key"]), str(item["id"])
        if self._by_key[key]:
            fault = self._by_key[key].popleft()
            return {"status": fault.status, "error": fault.body.decode()}
        if identity not in self._known:
            self._known.add(identity)
            headers = {"idempotency-key": identity, "crossdock-sequence": str(item["sequence"])}
            self.effects.append(Received("POST", "", key, headers, json.dumps(item["body"]).encode()))
        return {"status": 200}

    def successor(self) -> BatchReceiver:
        other = BatchReceiver(port=self.port)
        other.requests, other.effects, other._known = self.requests, self.effects, self._known
        return other


class TokenServer(HttpReceiver):
    """Gives `token-1`, `token-2` ... to whoever knows the secret, in the header or in the form."""

    def __init__(self, secret: str, *, life: object = 3600, certificate: Pair | None = None) -> None:
        super().__init__(certificate)
        self.secret, self.life, self.given = secret, life, 0

    def take(self, received: Received) -> Fault | None:
        with self._lock:
            self.requests.append(received)
            if self._next:
                return self._next.popleft()
            form = {name: values[0] for name, values in parse_qs(received.body.decode()).items()}
            login = received.headers.get("authorization", "")
            if login.startswith("Basic "):
                said = unquote_plus(base64.b64decode(login[6:]).decode().partition(":")[2])
            else:
                said = form.get("client_secret", "")
            if form.get("grant_type") != "client_credentials" or said != self.secret:
                return Fault(401, body=f"wrong secret {said}".encode())
            self.given += 1
            answer = {"access_token": f"token-{self.given}", "token_type": "Bearer", "expires_in": self.life}
            return Fault(200, body=json.dumps(answer).encode())
