"""Documents go back to sites: real controller and agents, real folders and tables."""

from pathlib import Path

import pytest

from support.gateway import wait_until
from support.write_back_site import Sites


@pytest.mark.timeout(180)
def test_a_document_reaches_a_folder_at_its_site_and_is_done_by_its_receipt(tmp_path: Path) -> None:
    with Sites(tmp_path) as sites:
        sites.give("atl1", "first", {"A1": "bolt", "A2": "nut"})
        wait_until(lambda: len(sites.files("atl1")) == 2, "both documents are in the folder", 90)
        assert not list(sites.folder("muc1").iterdir())
        marked = {path.name for path in sites.folder("atl1").iterdir()}
        assert marked == {name for f in sites.files("atl1") for name in (f.name, f"{f.name}.done")}

        def delivered() -> bool:
            (row,) = [r for r in sites.centre.json("account")["sources"] if r["source"] == "atl1-items"]
            return bool(row["delivered"] == 2)

        wait_until(delivered, "the receipts are in", 60)
