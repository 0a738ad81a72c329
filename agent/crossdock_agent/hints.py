"""File events wake a source early. They are only hints: a share that sends none, or a dead observer, costs time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from loguru import logger

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

_CHANGES = {"created", "modified", "moved", "closed"}  # not "opened": our own reading would wake us


class Hints:
    """Watches directories for several sources; watchdog is imported when the first one asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._watches: dict[str, list[ObservedWatch]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5.0)

    def watch(self, name: str, directories: Sequence[Path], wake: Callable[[], None]) -> None:
        """Call *wake* on changes in *directories*, from another thread, often. Never raises: the schedule remains."""
        if not directories:
            return
        from watchdog.events import FileSystemEvent, FileSystemEventHandler

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in _CHANGES:
                    wake()

        with self._lock:
            for directory in directories:
                try:
                    watch = self._started().schedule(Handler(), str(directory), recursive=False)
                except Exception as error:  # noqa: BLE001 - each platform's observer raises errors of its own
                    logger.bind(source=name, directory=str(directory)).info(
                        "no file events, only the schedule: {}", error
                    )
                else:
                    self._watches.setdefault(name, []).append(watch)

    def forget(self, name: str) -> None:
        with self._lock:
            for watch in self._watches.pop(name, []):
                if self._observer is not None and not any(watch in others for others in self._watches.values()):
                    self._observer.unschedule(watch)

    def _started(self) -> BaseObserver:
        if self._observer is None:
            from watchdog.observers import Observer

            observer = Observer()
            observer.start()
            self._observer = observer
        return self._observer
