"""The store itself: whether it can be written, how much room is left, and who holds it. Asked before anything is read
from it, for when it is full or damaged little else may work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import CrossdockError
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import faults, holder
from crossdock_controller.store.room import MIN_FREE_DISK_BYTES

FULL_BYTES = 4 * 1024 * 1024  # with less than this free, SQLite cannot write a round
SILENT_SECONDS = 15.0  # several signs of life that a controller could not write


@dataclass(frozen=True, slots=True)
class StorageView:
    """*state*: "ok"; "low", intake waits; "full", nothing can be written; "stuck", a controller runs and cannot write;
    "damaged"; "unreadable". *path* is the file whose disk has least free. *held_by* is empty while nobody holds it."""

    state: str
    path: str
    free_bytes: int
    floor_bytes: int
    state_bytes: int
    intake_bytes: int
    held_by: str
    beat_us: int
    problem: str
    hint: str

    @property
    def step(self) -> str:
        return f"{self.problem}: {self.hint}" if self.problem else ""


@served
def storage(data: DataDirectory, now_us: int) -> StorageView:
    """Never raises for what is wrong with the store: that is what it tells."""
    left, tightest = min((_free(path), path) for path in (data.state, data.intake))
    try:
        found = holder.at(data.state) or holder.at(data.intake)
    except CrossdockError as error:
        state = "damaged" if isinstance(error, faults.StoreDamaged) else "unreadable"
        return _view(data, tightest, state, left, 0, ("", 0), error.message, error.hint)
    floor = found.min_free_disk_bytes if found is not None else MIN_FREE_DISK_BYTES
    held = (
        (f"{found.host} (pid {found.pid})", found.beat_us) if found is not None and not found.released_us else ("", 0)
    )
    hint = (
        f"free disk space under {faults.place(tightest)}; all goes on by itself, and agents keep everything meanwhile"
    )
    if left < FULL_BYTES:
        said = f"the disk of {tightest} is full, {left} bytes are free: nothing can be written"
        return _view(data, tightest, "full", left, floor, held, said, hint)
    if left < floor:
        stopped = "nothing is taken in" if left >= floor // 2 else "nothing is taken in or normalized"
        said = f"{left} bytes are free on the disk of {tightest}, {floor} are kept free: {stopped}, deliveries go on"
        return _view(data, tightest, "low", left, floor, held, said, hint)
    silent = (now_us - held[1]) / 1_000_000
    if held[0] and silent > SILENT_SECONDS:
        said = f"the controller that holds {data.state} has not written to it for {silent:.0f} s"
        hint = "if it runs, see its log: the disk may fail or be read-only; if it does not, start it"
        return _view(data, tightest, "stuck", left, floor, held, said, hint)
    return _view(data, tightest, "ok", left, floor, held, "", "")


def _view(
    data: DataDirectory, path: Path, state: str, free: int, floor: int, held: tuple[str, int], problem: str, hint: str
) -> StorageView:
    state_bytes, intake_bytes = _bytes(data.state), _bytes(data.intake)
    return StorageView(state, str(path), free, floor, state_bytes, intake_bytes, *held, problem, hint)


def _free(path: Path) -> int:
    """A disk that cannot be asked is not called full."""
    free = faults.free_bytes(path)
    return 2**62 if free is None else free


def _bytes(path: Path) -> int:
    """Of the file and its log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
