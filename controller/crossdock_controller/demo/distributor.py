"""The configuration the demo applies: the example distributor's own tree, with the folders and ports of this run."""

from __future__ import annotations

from pathlib import Path

from crossdock.errors import ConfigError
from crossdock_controller.demo.business import ERP_SITE, SITES, Business

_WEBSHOP = "http://127.0.0.1:18090"  # what examples/distributor/config/sinks/webshop.yaml names


def example() -> Path:
    """examples/distributor: beside this module in an installed release, at the top of the repository otherwise."""
    here = Path(__file__).parent
    for place in (here / "distributor", here.parents[2] / "examples" / "distributor"):
        if (place / "config").is_dir():
            return place
    raise ConfigError(
        "the example distributor is not installed with this release", hint="run 'make demo' in the sources"
    )


def write_tree(target: Path, business: Business, webshop_url: str) -> Path:
    """A copy of the example's tree in *target*, for this run. Raises ConfigError when the example has changed."""
    source = example() / "config"
    for file in sorted(source.rglob("*.yaml")):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text("utf-8"), "utf-8")
    for site in SITES:
        values = {"wms_root": business.wms_root(site).as_posix()}
        if site == ERP_SITE:
            values["erp_file"] = business.erp_file.as_posix()
        _set_variables(target / "sites" / f"{site}.yaml", values)
    _replace(target / "sinks" / "webshop.yaml", _WEBSHOP, webshop_url)
    for name in ("wms-shipments", "wms-stock"):  # for an audience that waits: its WMS renames, so nothing need settle
        file = target / "sources" / f"{name}.yaml"
        file.write_text(file.read_text("utf-8") + "settle_seconds: 0.2\npoll_seconds: 0.5\n", "utf-8")
    return target


def _set_variables(file: Path, values: dict[str, str]) -> None:
    """Give the site's variables the folders of this run."""
    lines = file.read_text("utf-8").splitlines()
    for name, value in values.items():
        found = [i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:")]
        if len(found) != 1:
            raise ConfigError(f"{file.name} of the example has no variable {name!r}")
        lines[found[0]] = f'  {name}: "{value}"'
    file.write_text("\n".join(lines) + "\n", "utf-8")


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    if old not in text:
        raise ConfigError(f"{file.name} of the example does not name {old}")
    file.write_text(text.replace(old, new), "utf-8")
