"""Commands from an engineer's desk: each asks the controller for the operation of the same name, and gives back the
same result as if it had been carried out there.

A call is sent once. Whether one that changes something was done when the answer got lost is asked, never guessed: the
key it carries makes sure that the same call cannot be done twice.
"""

from __future__ import annotations

import http.client
import inspect
import json
import os
import ssl
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crossdock import errors
from crossdock.errors import ConfigError, ControllerUnavailable, CrossdockError, Refused, Rejected, Retryable
from crossdock_controller.operations import plain
from crossdock_controller.operations.hints import hints
from crossdock_controller.operations.table import BY_PLACE, Operation

TOKEN_VARIABLE = "CROSSDOCK_TOKEN"  # noqa: S105 - where the token is, not the token
PORT = 7445
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 150.0  # longer than the server works on a call
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_COMMANDS = "crossdock_controller.commands."


def token(file: str | None) -> str:
    """From *file*, else from CROSSDOCK_TOKEN: never from the command line, which every user of the machine can read.
    Raises ConfigError when there is none."""
    if file is not None:
        try:
            found = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token file {file} cannot be read: {error}") from error
    else:
        found = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not found or not found.isascii() or any(c.isspace() for c in found):
        raise ConfigError(
            "no API token was given" if not found else "what was given cannot be an API token",
            hint=f"--token-file FILE, or the token in {TOKEN_VARIABLE};"
            " an admin makes one: crossdock users token create NAME",
        )
    return found


class Client:
    """One controller's API. *ca*: the file its certificate is checked by; None for the system's authorities."""

    def __init__(self, server: str, token: str, ca: str | None) -> None:
        self._host, self._port = _host_and_port(server)
        self._token = token
        try:
            self._context = ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificates in {ca} cannot be used: {error}",
                hint="it is what 'crossdock ca bundle' prints on the controller's machine, copied here",
            ) from error
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def ask(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> object:
        """The result of the operation that is *function*. Raises what it raised there, ControllerUnavailable when
        there is no answer."""
        function = inspect.unwrap(function)
        operation = BY_PLACE[f"{function.__module__.removeprefix(_COMMANDS)}:{function.__name__}"]
        status, body = self._post(operation, json.dumps(plain.encode(dict(arguments))).encode())
        try:
            told = json.loads(body)
            if status == 200:
                return plain.decode(told, hints(function)["return"])
        except (ValueError, TypeError) as error:
            raise ControllerUnavailable(
                f"{self._host} answers in a way that is not understood (status {status}): {error}",
                hint="is it a crossdock controller's API, of this release?",
            ) from error
        raise _error(told if isinstance(told, dict) else {}, status)

    def _post(self, operation: Operation, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_SECONDS, context=self._context)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if operation.changes:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        sent = False
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            sent = True
            connection.request("POST", f"/v1/{operation.name}", body, headers)
            answer = connection.getresponse()
            read = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error, operation, sent=sent) from error
        finally:
            connection.close()
        if len(read) > MAX_ANSWER_BYTES:
            raise ControllerUnavailable(f"the answer of {self._host} is longer than {MAX_ANSWER_BYTES} bytes")
        return answer.status, read

    def _unreachable(self, error: Exception, operation: Operation, *, sent: bool) -> CrossdockError:
        where = f"the API at https://{self._host}:{self._port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConfigError(
                f"{where} shows a certificate that is not trusted: {error.verify_message}",
                hint="name the controller's CA with --ca or CROSSDOCK_CA, and the server as its certificate does",
            )
        if sent and operation.changes:
            return ControllerUnavailable(
                f"{where} gave no answer: {error}; whether it was done is not known",
                hint="look before you do it again: crossdock audit",
            )
        return ControllerUnavailable(
            f"{where} cannot be reached: {error}", hint="does the controller run, and its API?"
        )


def _host_and_port(server: str) -> tuple[str, int]:
    """Raises ConfigError for what is no address of an API."""
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port or PORT
        fits = parts.scheme == "https" and not (parts.path.strip("/") or parts.query or parts.username)
    except ValueError:  # brackets that do not close, a port that is none
        host, port, fits = None, PORT, False
    if not host or not fits:
        shown = server.rpartition("@")[2]  # what stands before it may be a password
        raise ConfigError(f"{shown!r} is no address of an API", hint=f"write it like https://controller:{PORT}")
    return host, port


def _error(told: Mapping[str, Any], status: int) -> CrossdockError:
    """What the operation raised there, as far as it has a name here."""
    message = str(told.get("error") or f"the API answers with status {status}")
    hint, kind = str(told.get("hint", "")), str(told.get("kind", ""))
    if kind == "ConfigInvalid":
        from crossdock_controller.config.errors import ConfigInvalid, Problem

        return ConfigInvalid(plain.decode(told.get("problems", []), list[Problem]))
    if kind == "Rejected":
        return Rejected(str(told.get("code", "")), message, field=str(told.get("field", "")), hint=hint)
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, CrossdockError):
        return found(message, hint=hint)
    return Retryable(message, hint=hint) if status in {429, 503} else Refused(message, hint=hint)
