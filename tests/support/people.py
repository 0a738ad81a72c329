"""A controller with its API, and people who call it, for tests that go through real processes and real TLS."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.gateway import wait_until
from support.processes import Centre, command


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """The API of a running controller."""

    def __init__(self, centre: Centre) -> None:
        self.centre = centre

    @property
    def ca(self) -> Path:
        return self.centre.data / "authority" / "ca.pem"

    @property
    def url(self) -> str:
        return str(json.loads((self.centre.data / "api.json").read_text("utf-8"))["url"])

    @property
    def pid(self) -> int:
        return int(json.loads((self.centre.data / "api.json").read_text("utf-8"))["pid"])

    def first_token(self) -> str:
        return (self.centre.data / "first-admin-token").read_text("utf-8").strip()

    def user(self, name: str, role: str, *on: str) -> str:
        """A user made on the controller's machine; a token of theirs."""
        self.centre.run("users", "add", name, "--role", role, *(f"--on={labels}" for labels in on))
        return self.token(name)

    def token(self, name: str, ttl: str = "1h") -> str:
        return str(self.centre.json("users", "token", "create", name, "--ttl", ttl)["token"])

    def post(self, operation: str, token: str, body: Any = None, source: str = "", **headers: str) -> Answer:
        sent = json.dumps(body if body is not None else {}).encode()
        return self.raw("POST", f"/v1/{operation}", sent, token, source, **headers)

    def raw(
        self, method: str, path: str, body: bytes = b"", token: str = "", source: str = "", **headers: str
    ) -> Answer:
        connection = self.connect(source=source)
        given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if token:
            given["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            read = answer.read()
        finally:
            connection.close()
        told = json.loads(read) if read else None
        return Answer(answer.status, told, {k.lower(): v for k, v in answer.getheaders()})

    def connect(self, context: ssl.SSLContext | None = None, source: str = "") -> http.client.HTTPSConnection:
        host, _, port = self.url.removeprefix("https://").rpartition(":")
        context = context or ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection(
            host, int(port), timeout=60, context=context, source_address=(source, 0) if source else None
        )

    def up(self) -> bool:
        try:
            self.raw("GET", "/")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def wait(self) -> None:
        wait_until(self.up, "the API answers", 120)

    def remote(self, token: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`crossdock ARGUMENTS` from another directory, by the API alone."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("CROSSDOCK_")}
        env |= {"CROSSDOCK_SERVER": self.url, "CROSSDOCK_TOKEN": token, "CROSSDOCK_CA": str(self.ca)}
        done = subprocess.run(
            [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", env=env, timeout=120,
            check=False, cwd=self.centre.directory,
        )  # fmt: skip
        assert done.returncode == code, f"crossdock {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done


def started(directory: Path, *arguments: str) -> Api:
    """A controller whose API answers; the caller stops `api.centre.process`."""
    api = Api(Centre(directory, *arguments, api="127.0.0.1:0"))
    try:
        api.centre.start()
        api.wait()
    except BaseException:
        api.centre.process.stop()
        raise
    return api
