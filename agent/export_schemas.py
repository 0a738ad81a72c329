"""Export the settings of every source kind: `python agent/export_schemas.py`; with --check, fail when they are stale.

The result, `protos/crossdock/schemas/sources.json`, is how the controller checks `sources/*.yaml` without importing the
agent: `{"kinds": {kind: JSON Schema}, "$defs": {name: JSON Schema}}`.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from crossdock_agent.sources.base import kinds

TARGET = Path(__file__).resolve().parent.parent / "protos" / "crossdock" / "schemas" / "sources.json"


def export() -> bytes:
    """The file's content; the same bytes for the same settings."""
    known = sorted(kinds().items())
    schemas, definitions = msgspec.json.schema_components(
        [kind.settings for _, kind in known], ref_template="#/$defs/{name}"
    )
    document = {"kinds": dict(zip((name for name, _ in known), schemas, strict=True)), "$defs": definitions}
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    checking = parser.parse_args().check
    fresh = export()
    if not checking:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_bytes(fresh)
    elif not TARGET.exists() or TARGET.read_bytes().replace(b"\r\n", b"\n") != fresh:
        sys.exit("stale source settings schemas; run: python agent/export_schemas.py")
    print(f"schemas of {len(kinds())} source kinds are {'fresh' if checking else 'written'}")


if __name__ == "__main__":
    main()
