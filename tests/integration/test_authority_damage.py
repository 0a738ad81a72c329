"""Damage to the list of authorities keeps the controller from a step of a rotation, and from nothing else."""

from pathlib import Path

from support.processes import Centre, wait_until


def test_a_list_of_authorities_that_cannot_be_read_keeps_no_revocation_from_cutting_a_stream(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        agent = centre.enrol("atl1").start()
        wait_until(lambda: centre.json("agents")["agents"][0]["state"] == "connected", "the agent is connected", 120)
        (centre.data / "authority" / "authorities.json").write_text("not a list", "utf-8")
        centre.run("agents", "revoke", "atl1")
        wait_until(lambda: "revoked" in agent.tail(400), "its stream is cut, and the agent says why", 30)
