"""An inquiry blames a batch for what the batch does, and for nothing else."""

import shutil
from pathlib import Path

from crossdock_controller.inquiry import Inquiry
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.poison import Suspect
from support.pipeline import Box
from support.waiting import until


def test_a_store_that_cannot_be_read_is_not_put_down_to_the_batch(tmp_path: Path) -> None:
    box = Box(tmp_path / "controller")
    box.send("1;a", "2;b")
    box.close()
    beside = DataDirectory(tmp_path / "unreadable")
    beside.prepare()
    shutil.copyfile(box.data.intake, beside.intake)
    beside.state.mkdir()
    inquiry = Inquiry(beside, Suspect(1, 1, 0, 1, 2), 20.0)
    until(lambda: inquiry.done, 120)
    assert inquiry.verdict == {}
