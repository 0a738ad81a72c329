"""Wake-ups between processes: datagrams on loopback. A datagram is only a hint: who waits looks by itself, a bit later.

A process that waits binds a port of its own (`Bell`) and registers it in state.db; a process that has work for a role
sends one byte to every port of that role (`Waker`). A lost, forged or stale datagram costs one look at the store.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sqlite3
import threading
import time
from pathlib import Path

from crossdock.errors import CrossdockError
from crossdock_controller.store.connection import connect, transaction

REFRESH_SECONDS = 1.0  # how soon a newly registered port is known; until then its owner finds out by looking
_LOOPBACK = "127.0.0.1"


class Waker:
    """Wakes roles ("normalize", "dispatch"). Any thread may call `wake`, also while it is closed; it does not block on
    the network."""

    def __init__(self, state: Path) -> None:
        self._db = connect(state, check_same_thread=False, cache_mib=1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._lock = threading.Lock()
        self._ports: dict[str, list[int]] = {}
        self._read_at = float("-inf")
        self._closed = False

    def wake(self, role: str) -> None:
        with self._lock:
            if self._closed:  # who is to be woken looks by itself
                return
            if time.monotonic() - self._read_at > REFRESH_SECONDS:
                self._ports = {}
                for name, port in self._db.execute("SELECT role, port FROM wakers"):
                    self._ports.setdefault(name, []).append(port)
                self._read_at = time.monotonic()
            for port in self._ports.get(role, ()):
                with contextlib.suppress(
                    OSError
                ):  # its owner is gone, or its queue is full: either way no hint is needed
                    self._socket.sendto(b"w", (_LOOPBACK, port))

    def close(self) -> None:
        with self._lock:  # SQLite ends the process when a connection is closed under another thread
            self._closed = True
            self._socket.close()
            self._db.close()


class Bell:
    """Waits for wake-ups of *role*; one thread waits, any may `ring`."""

    def __init__(self, db: sqlite3.Connection, role: str, owner: str) -> None:
        self._db = db
        self._role = role
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_LOOPBACK, 0))
        self._socket.setblocking(False)
        self._ringer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port: int = self._socket.getsockname()[1]
        with transaction(db):
            db.execute(
                "INSERT OR REPLACE INTO wakers(role, port, pid, owner) VALUES(?,?,?,?)",
                (role, self.port, os.getpid(), owner),
            )

    def wait(self, seconds: float) -> bool:
        """True when woken, False after *seconds*. Wake-ups that came before count, and all of them count as one."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        if not ready:
            return False
        with contextlib.suppress(OSError):  # BlockingIOError: drained; Windows reports what our datagrams met as reset
            while True:
                self._socket.recv(16)
        return True

    def ring(self) -> None:
        """Wake the waiting thread of this process."""
        with contextlib.suppress(OSError):  # closed: nobody waits any more
            self._ringer.sendto(b"w", (_LOOPBACK, self.port))

    def close(self) -> None:
        # A row that cannot be deleted costs a datagram to nobody.
        with contextlib.suppress(sqlite3.Error, CrossdockError), transaction(self._db):
            self._db.execute("DELETE FROM wakers WHERE role = ? AND port = ?", (self._role, self.port))
        self._socket.close()
        self._ringer.close()
