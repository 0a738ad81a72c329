"""An OpenID Connect issuer on loopback, over real HTTPS: discovery document and keys, which it changes when told to."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crossdock_controller.authority import Authority

AUDIENCE = "crossdock"


class Issuer:
    """*url* is its name; `token` signs with the newest key. *asked* counts how often each page was fetched."""

    def __init__(self, port: int) -> None:
        self.url = f"https://localhost:{port}"
        self.keys: dict[str, Any] = {}
        self.pages: dict[str, bytes] = {}
        self.asked: dict[str, int] = {}
        self.about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.add("rsa-1", rsa.generate_private_key(65537, 2048))

    def add(self, name: str, key: Any) -> None:
        self.keys[name] = key

    def page(self, path: str) -> bytes | None:
        self.asked[path] = self.asked.get(path, 0) + 1
        if path in self.pages:
            return self.pages[path]
        if path == "/.well-known/openid-configuration":
            return json.dumps(self.about).encode()
        return json.dumps({"keys": [self._published(name) for name in self.keys]}).encode() if path == "/keys" else None

    def _published(self, name: str) -> dict[str, Any]:
        public = self.keys[name].public_key()
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else jwt.algorithms.ECAlgorithm
        return {**json.loads(algorithm.to_jwk(public)), "kid": name, "use": "sig"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        made = {"iss": self.url, "aud": AUDIENCE, "sub": "sub-anna", "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in made.items() if value is not None}

    def token(self, key: str = "", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        name = key or list(self.keys)[-1]
        algorithm = "ES256" if isinstance(self.keys[name], ec.EllipticCurvePrivateKey) else "RS256"
        return jwt.encode(self.claims(**changes), self.keys[name], algorithm, {"kid": name, **(headers or {})})


@contextmanager
def running(directory: Path) -> Iterator[tuple[Issuer, Path]]:
    """(the issuer, the file with the CA its certificate is of)."""
    authority = Authority.open(directory / "issuer-ca")
    pair = authority.issue_server(["localhost", "127.0.0.1"], dt.datetime.now(dt.UTC))
    file = directory / "issuer.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = issuer.page(self.path)
            if found is not None and found.startswith(b"redirect "):
                self.send_response(302)
                self.send_header("Location", found.partition(b" ")[2].decode())
                self.end_headers()
                return
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    issuer = Issuer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer, directory / "issuer-ca" / "ca.pem"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
