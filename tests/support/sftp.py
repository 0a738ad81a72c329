"""A real OpenSSH server on a private port, with keys and folder of its own, run as whoever runs the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

START_SECONDS = 30.0


def sshd_program() -> str | None:
    return shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd",) if Path(p).exists()), None)


class SshServer:
    """`start` and `stop` as often as needed: port, keys and files stay."""

    def __init__(self, base: Path) -> None:
        import asyncssh

        self.base, self.directory = base, base / "files"
        self.directory.mkdir(parents=True)
        self.user = getpass.getuser()
        host, self._client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
        host.write_private_key(str(base / "host_key"))
        (base / "host_key").chmod(0o600)
        self._client.write_public_key(str(base / "authorized_keys"))
        self.key = self._client.export_private_key().decode()
        self.host_key = host.get_fingerprint("sha256")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        (base / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {base / 'host_key'}\nPidFile none\n"
            f"AuthorizedKeysFile {base / 'authorized_keys'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
            "MaxStartups 100\n"
        )

    def start(self) -> None:
        program = sshd_program()
        if program is None:
            message = "sshd is missing: packaging/setup.sh test installs openssh-server"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.base / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.base / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {(self.base / 'sshd.log').read_text()}")

    def stop(self) -> None:
        """With every session: they are children in groups of their own."""
        if self._process is None:
            return
        sessions = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for session in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()
        psutil.wait_procs(sessions, timeout=10)
        self._process = None


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()
