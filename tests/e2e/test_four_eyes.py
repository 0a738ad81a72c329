"""A real controller with real agents: what waits for a second person reaches no site, nor what belongs to another
environment, nor a revision that is not what was stored."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from crossdock_controller.commands import approvals, fleet
from crossdock_controller.commands.fleet import AgentView
from crossdock_controller.paths import DataDirectory
from support.gateway import wait_until
from support.processes import Centre
from support.trees import small_tree

POLICY = 'approvals:\n  - paths: ["sources/*"]\n'
SOURCE = """\
source: wms-shipments
on: {{}}
kind: file_drop
directory: ${{wms_root}}/out
pattern: "SHP*.csv"
poll_seconds: {poll}
format: {{kind: csv, delimiter: ";"}}
"""
GENEROUS = 90.0


def tree(root: Path, poll: float) -> dict[str, str]:
    """atl1 belongs to prod, rtm1 to test; both take their root from the variables of their environment."""
    found = small_tree(
        sites__atl1="site: atl1\nlabels: {region: us}\nvariables: {wms_root: '${share}/atl1'}\n",
        sites__rtm1="site: rtm1\nlabels: {region: eu}\nvariables: {wms_root: '${share}/rtm1'}\n",
    )
    return found | {
        "sources/shipments.yaml": SOURCE.format(poll=poll),
        "policy.yaml": POLICY,
        "environments/prod.yaml": f"on: {{region: us}}\nvariables: {{share: '{root.as_posix()}/prod'}}\n",
        "environments/test.yaml": f"on: {{region: eu}}\nvariables: {{share: '{root.as_posix()}/test'}}\n",
    }


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def agents(centre: Centre) -> dict[str, AgentView]:
    return {a.agent: a for a in fleet.agents(DataDirectory(centre.data), time.time_ns() // 1000)}


@pytest.mark.slow
def test_what_waits_for_a_second_person_reaches_no_site_and_what_is_approved_does(tmp_path: Path) -> None:
    for site in ("prod/atl1", "test/rtm1"):
        (tmp_path / site / "out").mkdir(parents=True)
    with Centre(tmp_path) as centre:
        centre.run("config", "environment", "prod")
        centre.run("apply", str(write(tmp_path / "tree", tree(tmp_path, 5))))
        for site in ("atl1", "rtm1"):
            centre.enrol(site).start()
        wait_until(lambda: agents(centre)["atl1"].revision == 1, "atl1 runs revision 1", GENEROUS)

        made = centre.json("apply", str(write(tmp_path / "tree", tree(tmp_path, 7))))
        assert (made["changed"], made["proposal"]) == (False, "p1")
        beat = agents(centre)["atl1"].last_seen_us
        wait_until(lambda: agents(centre)["atl1"].last_seen_us > beat, "the agent was spoken to since", GENEROUS)
        assert agents(centre)["atl1"].desired_revision == 1

        data = DataDirectory(centre.data)
        assert approvals.approve(data, "p1", "user:bert", time.time_ns() // 1000).revision == 2
        wait_until(lambda: agents(centre)["atl1"].revision == 2, "atl1 runs what was approved", GENEROUS)
        other = agents(centre)["rtm1"]
        assert (other.revision, other.desired_revision) == (0, 0)  # it belongs to the other environment

        centre.run("apply", str(write(tmp_path / "tree", {"routes/all.yaml": "to: [finance]\n"})))
        wait_until(lambda: agents(centre)["atl1"].desired_revision == 3, "revision 3 is known", GENEROUS)
        centre.process.stop()
        with closing(sqlite3.connect(data.state)) as db, db:
            db.execute("UPDATE revisions SET tree = replace(tree, 'poll_seconds: 7', 'poll_seconds: 1')")
        centre.start()
        wait_until(lambda: agents(centre)["atl1"].state == "connected", "the agent is back", GENEROUS)
        assert "is not offered to any site" in centre.process.log.read_text("utf-8")
        assert agents(centre)["atl1"].config_state != "failed"
        assert "damaged" in centre.run("history")
