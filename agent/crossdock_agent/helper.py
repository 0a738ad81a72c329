"""Rare heavy work runs in a short process of the same executable, so that the agent itself stays small.

`cryptography` and `sqlite-utils` weigh about 15 MB together and are needed seconds a day. Requests and answers are JSON
over stdin and stdout: a private key is never on a command line.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from crossdock.errors import ConfigError, CrossdockError, Refused, Retryable

TIMEOUT_SECONDS = 120.0
MIGRATE_TIMEOUT_SECONDS = 3600.0
COMMAND = "helper"  # the hidden command of the CLI

_ERRORS: dict[str, type[CrossdockError]] = {e.__name__: e for e in (ConfigError, Refused, Retryable)}


class Answer(msgspec.Struct):
    values: dict[str, bytes] = {}
    error: str = ""
    message: str = ""
    hint: str = ""


def new_key_and_request() -> tuple[bytes, bytes]:
    """See `crypto.new_key_and_request`."""
    answer = _ask("request", {})
    return answer["key"], answer["csr"]


def certificate_facts(certificate: bytes, key: bytes) -> tuple[str, int]:
    """See `crypto.certificate_facts`."""
    answer = _ask("facts", {"certificate": certificate, "key": key})
    return answer["agent"].decode(), int(answer["expires_us"])


def public_key_of(csr: bytes) -> bytes:
    """See `crypto.public_key_of`."""
    return _ask("public", {"csr": csr})["key"]


def wrap_key(key: bytes, secret: bytes) -> bytes:
    """See `crypto.wrap_key`."""
    return _ask("wrap", {"key": key, "secret": secret})["data"]


def unwrap_key(data: bytes, secret: bytes) -> bytes:
    """See `crypto.unwrap_key`."""
    return _ask("unwrap", {"data": data, "secret": secret})["key"]


def check_authorities(bundle: bytes) -> None:
    """See `crypto.check_authorities`."""
    _ask("authorities", {"bundle": bundle})


def prove(key: bytes, data: bytes) -> bytes:
    """See `crypto.prove`."""
    return _ask("prove", {"key": key, "data": data})["proof"]


def verify_config(config: bytes, signature: bytes, ca_bundle: bytes) -> None:
    """See `crypto.verify_config`."""
    _ask("verify", {"config": config, "signature": signature, "ca_bundle": ca_bundle})


def migrate(path: Path) -> None:
    """See `outbox.schema.migrate`."""
    _ask("migrate", {"path": str(path).encode()}, MIGRATE_TIMEOUT_SECONDS)


def serve(task: str, request: bytes) -> bytes:
    """The helper process: one task, one answer. An error of ours is an answer; any other is a crash, seen as one."""
    try:
        answer = Answer(_TASKS[task](msgspec.json.decode(request, type=dict[str, bytes])))
    except CrossdockError as error:
        answer = Answer(error=type(error).__name__, message=error.message, hint=error.hint)
    return msgspec.json.encode(answer)


def _ask(task: str, values: dict[str, bytes], timeout: float = TIMEOUT_SECONDS) -> dict[str, bytes]:
    frozen = getattr(sys, "frozen", False)
    command = [sys.executable, COMMAND, task] if frozen else [sys.executable, "-m", "crossdock_agent", COMMAND, task]
    try:
        done = subprocess.run(  # noqa: S603 - our own executable
            command,
            input=msgspec.json.encode(values),
            capture_output=True,
            check=False,
            timeout=timeout,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Retryable(
            f"helper process '{task}' did not finish: {error}", hint="is the machine out of memory?"
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Retryable(f"helper process '{task}' ended with {done.returncode}: {' '.join(said)}", hint="see the log")
    answer = msgspec.json.decode(done.stdout, type=Answer)
    if answer.error:
        raise _ERRORS.get(answer.error, CrossdockError)(answer.message, hint=answer.hint)
    return answer.values


def _request(_values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    key, csr = crypto.new_key_and_request()
    return {"key": key, "csr": csr}


def _facts(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    agent, expires_us = crypto.certificate_facts(values["certificate"], values["key"])
    return {"agent": agent.encode(), "expires_us": str(expires_us).encode()}


def _public(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    return {"key": crypto.public_key_of(values["csr"])}


def _wrap(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    return {"data": crypto.wrap_key(values["key"], values["secret"])}


def _unwrap(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    return {"key": crypto.unwrap_key(values["data"], values["secret"])}


def _authorities(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    crypto.check_authorities(values["bundle"])
    return {}


def _prove(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    return {"proof": crypto.prove(values["key"], values["data"])}


def _verify(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent import crypto

    crypto.verify_config(values["config"], values["signature"], values["ca_bundle"])
    return {}


def _migrate(values: dict[str, bytes]) -> dict[str, bytes]:
    from crossdock_agent.outbox.schema import migrate as run

    run(Path(values["path"].decode()))
    return {}


_TASKS: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "request": _request,
    "facts": _facts,
    "public": _public,
    "wrap": _wrap,
    "unwrap": _unwrap,
    "authorities": _authorities,
    "prove": _prove,
    "verify": _verify,
    "migrate": _migrate,
}
