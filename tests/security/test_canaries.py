"""Secrets stay where they were put: real processes, everything goes wrong that can, and then every file is searched."""

from __future__ import annotations

import json
import os
import secrets as random_
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock_agent.identity import parse_token
from support.canaries import Canary, homes_without, leaks
from support.gateway import wait_until
from support.postgres import _DRIVER_PATTERNS
from support.processes import Centre, Process, command

TREE = {
    "sites/atl1.yaml": "site: atl1\nzone: UTC\n",
    "sources/wms.yaml": """source: wms
on: {}
kind: file_drop
directory: "DROP"
pattern: "*.csv"
settle_seconds: 0
poll_seconds: 0.1
format: {kind: csv, delimiter: ";"}
""",
    "sources/erp.yaml": """source: erp
on: {}
kind: sql_table
connection: {odbc: "DRIVER=DRIVER_PATH;SERVER=127.0.0.1;PORT=1;DATABASE=erp;UID=app;PWD={secret:erp-db}",
  dialect: postgresql}
table: orders
key: [id]
mode: snapshot
poll_seconds: 0.2
""",
    "sources/old.yaml": """source: old
on: {}
kind: sql_table
connection: {odbc: "DRIVER={no such driver};SERVER=127.0.0.1;UID=app;PWD={secret:old-db}", dialect: postgresql}
table: orders
key: [id]
mode: snapshot
poll_seconds: 0.2
""",
    "mappings/wms.yaml": """mapping: wms
document: StockLevel
fields: {location: BIN, sku: ITEM, on_hand: {from: QTY, as: decimal}}
""",
    "routes/all.yaml": "to: [shop, finance]\n",
    "sinks/shop.yaml": """sink: shop
kind: http
url: "SHOP/documents/{key}"
headers: {Authorization: secret:shop-login, X-Api-Key: secret:shop-key}
""",
    "sinks/finance.yaml": """sink: finance
kind: sql
url: postgresql://app@127.0.0.1:1/finance
password: secret:finance-db
create_tables: true
tables:
  StockLevel: {table: stock, key: [location, sku], columns: {location: location, sku: sku, on_hand: on_hand.value}}
""",
}


class _Echo(BaseHTTPRequestHandler):
    """A receiver that refuses a document and says back all that it was sent, its login included."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"no such customer; you sent:\n{self.headers}".encode()
        self.send_response(422)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def echoing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def private(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def secret(name: str) -> str:
    return f"Canary/{name}+{random_.token_hex(12)}="


def scalar(path: Path) -> bytes:
    """What makes a private key private: half of it is enough to look for, and is never cut by the lines of a PEM."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")[8:24]


def odbc_driver() -> str:
    for pattern in _DRIVER_PATTERNS:
        found = sorted(Path("/").glob(pattern.removeprefix("/")))
        if found:
            return str(found[0])
    said = "the ODBC driver of PostgreSQL is not installed"
    raise AssertionError(said) if os.environ.get("CI") == "true" else pytest.skip.Exception(said)


class Run:
    """A centre and a site whose secrets are canaries. *said* is what every command printed."""

    def __init__(self, directory: Path, shop: str) -> None:
        self.directory = directory
        self.said: dict[str, str] = {}
        self.words = {n: secret(n) for n in ("erp-db", "old-db", "shop-login", "shop-key", "finance-db", "literal")}
        self.words["shop-login"] = self.words["shop-login"].replace("/", "-")
        home = directory / "controller" / "secrets" / "finance-db"
        state = directory / "agent-atl1"
        self.files = {"finance-db": home, "old-db": state / "secrets" / "old-db"}
        private(home, self.words["finance-db"])
        env = {
            "CROSSDOCK_SECRET_SHOP_LOGIN": f"Bearer {self.words['shop-login']}",
            "CROSSDOCK_SECRET_SHOP_KEY": self.words["shop-key"],
        }
        self.centre = Centre(directory, env=env)
        self.drop = directory / "drop"
        self.drop.mkdir()
        self.config = directory / "config"
        self._write({"DROP": self.drop.as_posix(), "DRIVER_PATH": odbc_driver(), "SHOP": shop})

    def _write(self, places: dict[str, str]) -> None:
        for name, text in TREE.items():
            path = self.config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(reduce(lambda t, item: t.replace(*item), places.items(), text), "utf-8")

    def start(self) -> None:
        self.centre.start()
        applied = self.say("apply", str(self.config), "-m", "first")
        assert "in force" in applied, self.said
        token = json.loads(self.say("token", "create", "--site", "atl1", "--json", keep=False))["token"]
        self.words["join token"] = parse_token(token).secret
        first = self.centre.data / "first-admin-token"
        self.words["first admin token"], self.files["first admin token"] = first.read_text("utf-8").strip(), first
        self.say("users", "add", "anna", "--role", "viewer", "--on", "all")
        made = json.loads(self.say("users", "token", "create", "anna", "--json", keep=False))
        self.words["API token"] = made["token"]
        state = self.directory / "agent-atl1"
        self.enroll(token, state)
        private(self.files["old-db"], self.words["old-db"])
        self.enroll(token, self.directory / "agent-again")  # used already: an error
        arguments = [command("crossdock-agent"), "run", "--state", str(state)]
        env = {"CROSSDOCK_SECRET_ERP_DB": self.words["erp-db"]}
        self.agent = Process("agent-atl1-run", arguments, self.directory, env).start()
        self.env = {**os.environ, **env}
        self.state = state

    def enroll(self, token: str, state: Path) -> None:
        done = subprocess.run(
            [command("crossdock-agent"), "enroll", "--token", token, "--state", str(state)],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        self.said[f"enroll {state.name}"] = done.stdout + done.stderr

    def say(self, *words: str, keep: bool = True) -> str:
        """Output of a `crossdock` command, whether it works or not."""
        env = {**os.environ, "CROSSDOCK_DATA": str(self.centre.data)}
        arguments = [command("crossdock"), *words]
        done = subprocess.run(arguments, capture_output=True, encoding="utf-8", env=env, timeout=120, check=False)
        if keep:
            self.said[" ".join(words)] = done.stdout + done.stderr
        return done.stdout

    def site(self, *words: str) -> None:
        arguments = [command("crossdock-agent"), *words, "--state", str(self.state)]
        done = subprocess.run(arguments, capture_output=True, encoding="utf-8", env=self.env, timeout=120, check=False)
        self.said[f"crossdock-agent {words[0]}"] = done.stdout + done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.say(*words, "--json") or "{}")

    def errors(self) -> dict[str, str]:
        """What the agent says of each source."""
        path = self.state / "status.json"
        found = json.loads(path.read_bytes()) if path.exists() else {"sources": []}
        return {s["source"]: s["error"] for s in found["sources"]}

    def close(self) -> None:
        if hasattr(self, "agent"):
            self.agent.stop()
        self.centre.process.stop()

    def canaries(self, backup: Path) -> list[Canary]:
        """Each with the files that are its own: there is no other place."""
        authority, identity = self.centre.data / "authority", self.state / "identity"
        ca_keys = sorted(p for p in authority.iterdir() if p.suffix == ".key")
        (agent_key,) = identity.glob("key-*.pem")
        kept = {key: frozenset({key, backup / "authority" / key.name}) for key in ca_keys}
        keys = [Canary(f"key of the authority {k.name}", scalar(k), home) for k, home in kept.items()]
        keys.append(Canary("key of the agent", scalar(agent_key), frozenset({agent_key})))
        words = [
            Canary(name, word.encode(), frozenset({self.files[name]}) if name in self.files else frozenset())
            for name, word in self.words.items()
        ]
        return keys + words


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with echoing() as shop:
        found = Run(tmp_path, shop)
        try:
            yield found
        finally:
            found.close()


@pytest.mark.slow
def test_no_secret_is_found_outside_of_its_own_place_after_everything_went_wrong(run: Run, tmp_path: Path) -> None:
    run.start()
    (run.drop / "a.csv").write_text("BIN;ITEM;QTY\nA-1;4711;5\nA-2;4712;many\nA-3\n", "utf-8")
    wait_until(lambda: run.json("dead", "list").get("dead_letters"), "bad rows are dead letters", 120)
    wait_until(lambda: run.errors().get("erp") and run.errors().get("old"), "both databases are complained of", 120)
    wait_until(lambda: "no such customer" in run.say("dead", "list", "--json"), "the receiver has refused it", 120)
    broken = tmp_path / "broken"
    for part in ("sites/atl1.yaml", "sources/wms.yaml", "sinks/finance.yaml"):
        (broken / part).parent.mkdir(parents=True, exist_ok=True)
        (broken / part).write_text((run.config / part).read_text("utf-8"), "utf-8")
    finance = (broken / "sinks" / "finance.yaml").read_text("utf-8")
    written_out = finance.replace("secret:finance-db", run.words["literal"])
    (broken / "sinks" / "finance.yaml").write_text(written_out, "utf-8")
    for words in (["plan", str(broken)], ["apply", str(broken), "-m", "x"], ["plan", str(run.config)]):
        run.say(*words)
    (broken / "sinks" / "finance.yaml").unlink()  # the test's own
    for words in (
        ["status"], ["status", "--json"], ["agents"], ["agents", "--json"], ["account"], ["history"], ["token", "list"],
        ["trace", "stocklevel", "A-1:4711"], ["dead", "list"], ["dead", "show", "1"], ["dead", "show", "2"],
        ["config", "secrets", "--json"], ["audit", "list"], ["audit", "verify"], ["users", "list"], ["ca"],
        ["fleet", "risks"], ["config", "pull", str(tmp_path / "pulled")],
    ):  # fmt: skip
        run.say(*words)
    for words in (["status"], ["check"], ["try", "erp"], ["try", "old"]):
        run.site(*words)
    backup = tmp_path / "backup"
    run.say("backup", str(backup))
    assert (backup / "authority").is_dir(), run.said
    run.close()
    canaries = run.canaries(backup)
    assert homes_without(canaries) == []
    assert leaks(canaries, tmp_path, run.said) == []
    assert sum("password" in text or "connect" in text for text in run.said.values()) > 0


def test_the_search_for_canaries_finds_every_form_of_one(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    word = secret("x")
    canary = Canary("x", word.encode())
    import base64
    from urllib.parse import quote

    shapes = [
        word.encode(), base64.b64encode(b"user:" + word.encode()), base64.b64encode(b"u:" + word.encode()),
        base64.urlsafe_b64encode(b"ab" + word.encode() + b"z"), word.encode().hex().encode(),
        quote(word, safe="").encode(),
        word.encode("utf-16-le"), json.dumps({"a": word}).encode(),
    ]  # fmt: skip
    for number, shape in enumerate(shapes):
        (tmp_path / "f").write_bytes(b"..." + shape + b"...")
        assert leaks([canary], tmp_path, {}) == ["x in f"], number
    (tmp_path / "f").write_bytes(b"nothing")
    assert leaks([canary], tmp_path, {"said": word}) == ["x in said"]
    assert leaks([canary], tmp_path, {"said": "nothing"}) == []
