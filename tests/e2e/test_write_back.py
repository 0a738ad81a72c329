"""Documents go back to sites: real controller and agents, real folders and tables."""

import random
import time
from pathlib import Path

import pytest

from support.gateway import wait_until
from support.write_back_site import SITES, Sites


@pytest.mark.timeout(180)
def test_a_document_reaches_a_folder_at_its_site_and_is_done_by_its_receipt(tmp_path: Path) -> None:
    with Sites(tmp_path) as sites:
        sites.give("atl1", "first", {"A1": "bolt", "A2": "nut"})
        wait_until(lambda: len(list(sites.folder("atl1").glob("*.done"))) == 2, "both are in the folder, marked", 90)
        assert not list(sites.folder("muc1").iterdir())
        marked = {path.name for path in sites.folder("atl1").iterdir()}
        assert marked == {name for f in sites.files("atl1") for name in (f.name, f"{f.name}.done")}

        def delivered() -> bool:
            (row,) = [r for r in sites.centre.json("account")["sources"] if r["source"] == "atl1-items"]
            return bool(row["delivered"] == 2)

        wait_until(delivered, "the receipts are in", 60)


@pytest.mark.timeout(300)
def test_agents_that_are_killed_write_each_document_once_to_folders_and_tables(tmp_path: Path) -> None:
    """600 deliveries: 150 documents a site, each to its folder and its table; every write is counted there."""
    rng = random.Random(20)
    with Sites(tmp_path, table=True) as sites:
        for site in SITES:
            sites.install_receipts(site)
        items = {site: {f"{site}-{i:04d}": f"item {i}" for i in range(150)} for site in SITES}
        for site in SITES:
            sites.give(site, "all", items[site])
        for kill, at in enumerate((30, 90, 60, 120)):
            site = SITES[kill % 2]
            wait_until(lambda site=site, at=at: len(sites.files(site)) >= at, f"{at} documents are at {site}", 120)
            time.sleep(rng.uniform(0.0, 0.1))  # the moment itself is what is random here
            sites.agents[site].kill()
            sites.agents[site].start()
        for site in SITES:
            wait_until(
                lambda site=site: len(sites.files(site)) == len(sites.rows(site)) == 150, f"all is at {site}", 120
            )
        wait_until(lambda: sites.settled() == {"applied": 600}, "every receipt is in", 120)
        for site in SITES:
            assert sites.rows(site) == {sku: (name, 1) for sku, name in items[site].items()}  # written once
            assert sites.receipts(site) == 150
            assert sites.skus(site) == sorted(items[site])
            assert not [p for p in sites.folder(site).iterdir() if p.suffix == ".tmp"]
        _take_back(sites)


def _take_back(sites: Sites) -> None:
    """What an undo does to a row, to a file, and to what somebody else has changed since."""

    def undo(sink: str, key: str) -> tuple[int, str]:
        done = sites.typed("undo", sink, "--document", "Product", "--key", key, "--because", "a test", "--wait", "60")
        return done.returncode, done.stdout + done.stderr

    assert undo("atl1-table", "atl1-0007")[0] == 0
    assert "atl1-0007" not in sites.rows("atl1")
    assert undo("atl1-drop", "atl1-0007")[0] == 0
    assert "atl1-0007" not in sites.skus("atl1")
    assert not list(sites.folder("atl1").glob("atl1-0007-*"))  # its marker went, too
    sites.change("muc1", "UPDATE items SET NAME = 'by hand' WHERE SKU = 'muc1-0007'")
    code, said = undo("muc1-table", "muc1-0007")
    assert code == 1, said
    assert "was changed since it was written here" in said
    assert sites.rows("muc1")["muc1-0007"][0] == "by hand"
    assert undo("atl1-table", "atl1-0007")[0] == 1  # nothing of it is there any more
    audited = sites.centre.json("audit", "--action", "writebacks.undo")["entries"]
    assert len(audited) == 3
