"""A file for its owner's eyes: mode 600, on Windows an ACL of this account, Administrators and SYSTEM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from crossdock.errors import ConfigError


def protect(path: Path) -> None:
    """Raises ConfigError when access cannot be limited."""
    if sys.platform != "win32":
        path.chmod(0o600)
        return
    account = os.environ.get("USERNAME", "")
    grants = ["*S-1-5-18:F", "*S-1-5-32-544:F", *([f"{account}:F"] if account else [])]
    icacls = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "icacls.exe"
    done = subprocess.run(  # noqa: S603 - a fixed Windows tool
        [str(icacls), str(path), "/inheritance:r", "/grant:r", *grants],
        check=False, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW,
    )  # fmt: skip
    if done.returncode:
        raise ConfigError(f"access to {path} cannot be limited to its owner", hint="is icacls.exe there?")
