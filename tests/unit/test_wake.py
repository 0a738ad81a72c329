"""A waker that is closed while others use it. SQLite would end the process, so the trial has one of its own."""

import subprocess
import sys
from pathlib import Path

TRIAL = """
import sys, threading
from pathlib import Path
from crossdock_controller.store import migrate, wake

wake.REFRESH_SECONDS = 0.0  # each wake asks the store
state = Path(sys.argv[1])
migrate(state)
for _ in range(60):
    waker = wake.Waker(state)
    begun = threading.Barrier(4)

    def work():
        begun.wait()
        for _ in range(200):
            waker.wake("dispatch")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    waker.close()
    for thread in threads:
        thread.join()
"""


def test_a_waker_may_be_closed_while_it_wakes(tmp_path: Path) -> None:
    tried = subprocess.run(
        [sys.executable, "-c", TRIAL, str(tmp_path / "state.db")],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (tried.returncode, tried.stderr) == (0, "")
