"""The demo tells the truth: it ends well only when everything that was made has arrived, once."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.processes import command


def tell(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "TMP": str(tmp_path), "PYTHONUTF8": "1"}
    return subprocess.run(
        [command("crossdock"), "demo", "--speed", "5"],
        capture_output=True, encoding="utf-8", env=env, timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_loses_and_doubles_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert tempfile.gettempdir()
    done = tell(tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told = done.stdout
    assert "lost 0 · doubled 0 · balanced" in told
    outbox = re.search(r"([\d,]+) records? safe on disk at the sites, order 4711 among them", told)
    assert outbox is not None
    assert int(outbox[1].replace(",", "")) > 0
    made = [
        int(n.replace(",", ""))
        for n in re.findall(r"crossdock account: ([\d,]+) records in, as many as were made", told)
    ]
    assert len(made) == 2
    assert made[0] == made[1] > 500
    assert "zwölf" in told
    assert "→ delivered to archive and finance and webshop" in told
    assert "from dead letter 1, corrected" in told
    assert "taken once" in told
    assert "\x1b[" not in told, "a pipe gets no escape codes"
    assert list(tmp_path.glob("crossdock-demo-*")) == []
