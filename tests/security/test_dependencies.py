"""What we run on is what we tested: every dependency, and theirs, by version and hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = ROOT / "packaging" / "requirements" / "dev.txt"


def plain(requirement: str) -> str:
    """ "psycopg" of "psycopg[binary]>=3.2; python_version < '4'"."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def pinned() -> dict[str, str]:
    """{name: its whole entry} of the file of pins."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", PINS.read_text("utf-8").strip())
    return {plain(entry): entry for entry in entries if not entry.startswith("#")}


def test_every_dependency_at_run_time_is_pinned_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for name in extras if name != "fuzz" for r in extras[name])]
    names = {plain(r) for r in wanted} - {"crossdock"}
    assert names - set(pinned()) == set()


def test_every_pin_names_one_version_and_its_hashes_and_no_address() -> None:
    text = PINS.read_text("utf-8")
    assert "://" not in text
    assert len(pinned()) > 50
    for name, entry in pinned().items():
        assert re.match(r"[A-Za-z0-9._\[\]-]+==[^\s;]+", entry), name
        assert "--hash=sha256:" in entry, name


def test_the_environment_is_made_from_the_pins_by_hash_and_from_nothing_else() -> None:
    assert "--require-hashes" in (ROOT / "packaging" / "setup.sh").read_text("utf-8")
