"""The ordinary commands from an engineer's desk, through the API: the same words, JSON and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from crossdock.errors import ConfigError, ControllerUnavailable, Refused, Rejected
from crossdock_controller import remote
from crossdock_controller.authority import Authority
from crossdock_controller.commands import people
from crossdock_controller.served import Elsewhere
from support.estate import TREE
from support.people import Api, started
from support.processes import command


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = started(tmp_path_factory.mktemp("remote"))
    try:
        yield api
    finally:
        api.centre.process.stop()


@pytest.fixture(scope="module")
def admin(api: Api) -> str:
    return api.user("ada", "admin", "all")


@pytest.fixture(scope="module")
def tree(api: Api) -> Path:
    return _written(api.centre.directory / "tree", TREE)


def _written(directory: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    return directory


_MOVING = re.compile(r'"(now_us|at_us|seconds|last_used_us|free_bytes|state_bytes|intake_bytes|beat_us|seq|hash)": .*')


def _steady(text: str) -> str:
    """Without what differs from one moment to the next."""
    return re.sub(r"\d+(\.\d+)? (s|ms|min)\b( ago)?|just now", "AGO", _MOVING.sub("", text))


@pytest.mark.slow
def test_a_command_says_the_same_here_and_from_elsewhere(api: Api, admin: str, tree: Path) -> None:
    assert "Revision 1 is in force" in api.remote(admin, "apply", str(tree), "-m", "from my desk").stdout
    made = json.loads(api.remote(admin, "token", "create", "--site", "atl1", "--json").stdout)
    assert made["token"].startswith("cd1_")
    for arguments in (
        ["status"], ["account", "--json"], ["agents"], ["history", "--json"], ["dead", "list"],
        ["users", "list", "--json"], ["plan", str(tree)], ["users", "token", "list", "ada"], ["rollout", "--json"],
        ["fleet", "risks", "--json"], ["token", "list"], ["ca", "--json"], ["approvals", "--json"],
    ):  # fmt: skip
        here = subprocess.run(
            [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", timeout=120, check=False,
            env={**os.environ, "CROSSDOCK_DATA": str(api.centre.data)},
        )  # fmt: skip
        there = api.remote(admin, *arguments, code=here.returncode)
        assert _steady(there.stdout) == _steady(here.stdout), arguments
    pulled = api.centre.directory / "pulled"
    api.remote(admin, "config", "pull", str(pulled))
    assert {p.relative_to(pulled).as_posix(): p.read_text("utf-8") for p in pulled.rglob("*.yaml")} == TREE
    assert "sites/atl1.yaml (added)" in api.remote(admin, "diff", "1").stdout
    assert json.loads(api.remote(admin, "account", "--json").stdout)["total"]["in"] == 0
    assert json.loads(api.remote(admin, "top", "--interval", "0.1s", "--json").stdout)["controller"] == "up"
    assert json.loads(api.remote(admin, "audit", "verify", "--json").stdout)["sound"] is True
    first = api.remote(admin, "audit", "export").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in first] == list(range(1, len(first) + 1))


def test_who_did_it_is_the_person_of_the_token_and_not_the_one_at_the_keyboard(api: Api, admin: str) -> None:
    api.remote(admin, "users", "add", "zoe", "--role", "viewer", "--on", "site=atl1")
    (entry,) = json.loads(api.remote(admin, "audit", "--target", "zoe", "--json").stdout)["entries"]
    assert (entry["actor"], entry["action"]) == ("user:ada", "users.add")


def test_an_error_comes_back_as_the_one_it_was_with_its_next_step_and_exit_code(
    api: Api, admin: str, tree: Path
) -> None:
    told = api.remote(admin, "agents", "revoke", "nobody", code=1).stderr
    assert "there is no agent 'nobody'" in told
    assert "next: 'crossdock agents' lists all of them" in told
    broken = _written(api.centre.directory / "broken", {**TREE, "sites/atl1.yaml": "site: [\n"})
    for arguments in (["plan", str(broken)], ["apply", str(broken)]):
        here = subprocess.run(
            [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", timeout=120, check=False,
            env={**os.environ, "CROSSDOCK_DATA": str(api.centre.data)},
        )  # fmt: skip
        there = api.remote(admin, *arguments, code=1)
        assert (there.stdout, there.stderr) == (here.stdout, here.stderr)
        assert "sites/atl1.yaml" in there.stdout
    viewer = api.token("zoe") if "zoe" in api.centre.run("users", "list") else api.user("zoe", "viewer", "site=atl1")
    refused = api.remote(viewer, "apply", str(tree), code=1).stderr
    assert "apply needs the role engineer" in refused


def test_what_needs_the_data_directory_says_so_and_does_nothing(api: Api, admin: str, tmp_path: Path) -> None:
    for arguments in (
        ["backup", str(tmp_path / "b")], ["restore", str(tmp_path / "b")], ["controller", "run"],
        ["controller", "check"],
    ):  # fmt: skip
        told = api.remote(admin, *arguments, code=1).stderr
        assert "needs the controller's data directory itself" in told, arguments
        assert "without --server" in told
    assert not (tmp_path / "b").exists()


def test_the_server_must_prove_itself_and_the_token_never_leaves_for_another(
    api: Api, admin: str, tmp_path: Path
) -> None:
    Authority.open(tmp_path / "other")
    env = {"CROSSDOCK_TOKEN": admin, "CROSSDOCK_CA": str(tmp_path / "other" / "ca.pem")}
    told = _run(["--server", api.url, "status"], env, 1).stderr
    assert "shows a certificate that is not trusted" in told
    assert "--ca or CROSSDOCK_CA" in told
    elsewhere = api.url.replace("127.0.0.1", "127.0.0.2")  # a name that its certificate does not carry
    told = _run(["--server", elsewhere, "status"], {**env, "CROSSDOCK_CA": str(api.ca)}, 1).stderr
    assert "cannot be reached" in told or "not trusted" in told
    for address in ("http://127.0.0.1:1", "ftp://x", "127.0.0.1", "https://user:secret@host", "https://host/path"):
        told = _run(["--server", address, "status"], env, 1).stderr
        assert "is no address of an API" in told


def _run(arguments: list[str], more: dict[str, str], code: int) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CROSSDOCK_")} | more
    done = subprocess.run(
        [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", timeout=120, check=False, env=env
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def test_the_token_comes_from_a_file_or_the_environment_and_from_nowhere_else(
    api: Api, admin: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{admin}\n", encoding="utf-8")
    where = ["--server", api.url, "--ca", str(api.ca)]
    assert json.loads(_run([*where, "--token-file", str(file), "users", "list", "--json"], {}, 0).stdout)["users"]
    assert _run([*where, "users", "list"], {"CROSSDOCK_TOKEN_FILE": str(file)}, 0).stdout
    assert "no API token was given" in _run([*where, "status"], {}, 1).stderr
    assert "cannot be read" in _run([*where, "--token-file", str(tmp_path / "none"), "status"], {}, 1).stderr
    assert "cannot be an API token" in _run([*where, "status"], {"CROSSDOCK_TOKEN": "two words"}, 1).stderr
    assert _run([*where, "--token", admin, "status"], {}, 2).stderr, "there is no such option: others could read it"
    both = _run([*where, "status", "--data", str(tmp_path)], {"CROSSDOCK_TOKEN": admin}, 2).stderr
    assert "not both" in both
    here = _run(
        ["users", "list", "--data", str(api.centre.data), "--json"], {"CROSSDOCK_SERVER": "https://127.0.0.1:1"}, 0
    )
    assert json.loads(here.stdout)["users"], "the command line counts before the environment"


class Careless(BaseHTTPRequestHandler):
    """A server that is no controller: it answers whatever it was told to."""

    answer: tuple[int, bytes] = (200, b"")

    def do_POST(self) -> None:
        status, body = self.answer
        if status == 0:  # the connection breaks after the request was read
            self.rfile.read(int(self.headers["Content-Length"]))
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def careless(tmp_path: Path) -> Iterator[Elsewhere]:
    import datetime as dt
    import ssl

    authority = Authority.open(tmp_path / "ca")
    pair = authority.issue_server(["localhost"], dt.datetime.now(dt.UTC))
    (tmp_path / "pair.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    server = HTTPServer(("127.0.0.1", 0), Careless)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield Elsewhere(remote.Client(f"https://localhost:{server.server_port}", "cdt_x", str(tmp_path / "ca" / "ca.pem")))
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((200, b"no json"), ControllerUnavailable, "not understood"),
        ((200, b'{"users": []}'), ControllerUnavailable, "not understood"),
        ((200, b'[{"name": 7}]'), ControllerUnavailable, "not understood"),
        ((500, b"<html>"), ControllerUnavailable, "not understood"),
        ((404, b'{"detail": "x"}'), Refused, "status 404"),
        ((409, b'{"error": "no", "hint": "h", "kind": "Refused"}'), Refused, "no"),
        ((422, b'{"error": "bad", "hint": "h", "kind": "Rejected", "code": "bad_decimal"}'), Rejected, "bad"),
        ((422, b'{"error": "e", "hint": "h", "kind": "ConfigError"}'), ConfigError, "e"),
        ((500, b'{"error": "e", "hint": "h", "kind": "__import__"}'), Refused, "e"),
        ((500, b'{"error": "e", "hint": "h", "kind": "annotations"}'), Refused, "e"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_of_ours_ends_in_a_message(
    careless: Elsewhere, answer: tuple[int, bytes], error: type[Exception], said: str
) -> None:
    Careless.answer = answer
    with pytest.raises(error, match=said):
        people.list_users(careless, 1)


def test_a_change_whose_answer_was_lost_is_not_sent_again_and_says_that_nobody_knows(careless: Elsewhere) -> None:
    Careless.answer = (0, b"")
    with pytest.raises(ControllerUnavailable) as caught:
        people.remove_user(careless, "anna", by="local:test", now_us=1)
    assert "whether it was done is not known" in caught.value.message
    assert "crossdock audit" in caught.value.hint


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    nobody = Elsewhere(remote.Client("https://127.0.0.1:1", "cdt_x", None))
    with pytest.raises(ControllerUnavailable, match="cannot be reached"):
        people.list_users(nobody, 1)


@pytest.mark.parametrize("address", ["https://h:99999", "https://h:port", "https://[bad", "https://u:canary@h:1x"])
def test_an_address_that_cannot_be_read_is_told_without_what_may_be_a_password(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of an API") as caught:
        remote.Client(address, "cdt_x", None)
    assert "canary" not in caught.value.message


def test_commands_start_as_quickly_as_before_the_api_was_there() -> None:
    """Neither the web framework nor the server nor the client's TLS is imported by a command that works here."""
    probe = (
        "import sys; from crossdock_controller.cli import root; "
        "[root.get_command(None, name) for name in root.list_commands(None)]; "
        "print([m for m in ('litestar', 'uvicorn', 'jwt', 'httpx', 'crossdock_controller.remote',"
        " 'crossdock_controller.api') if m in sys.modules])"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, encoding="utf-8", check=True, timeout=120)
    assert done.stdout.strip() == "[]"
