"""A restore never goes back behind a replacement of the certificate authority: agents have followed it, and one that
was retired may have been retired because its key was stolen."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from loguru import logger

from crossdock.errors import CrossdockError
from crossdock_controller.authority import Authority, files, write_private
from crossdock_controller.authority.states import States, goes_on


def newest(backup: Path, candidates: Iterable[Path]) -> Path | None:
    """Of the *candidates* (directories of authorities) the one that went on furthest from what *backup* holds; None
    when none did, or none can be read and used."""
    found: Path | None = None
    at = files.read(backup)
    for candidate in candidates:
        states = _usable(candidate)
        if states is not None and goes_on(states, at):
            found, at = candidate, states
    return found


def put(source: Path, target: Path) -> None:
    """Make *target* hold what *source* does, durably. *target* is no controller's yet."""
    shutil.rmtree(target)
    target.mkdir(mode=0o700)
    for name in files.names(source):
        write_private(target / name, (source / name).read_bytes())


def _usable(directory: Path) -> States | None:
    if not directory.is_dir():
        return None
    try:
        return Authority(directory).states  # reads every key
    except CrossdockError as error:
        logger.info("the authorities in {} are not taken over: {}", directory, error)
        return None
