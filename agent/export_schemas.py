"""Export the settings of every kind of source and writer: `python agent/export_schemas.py`; with --check, fail when
they are stale.

The results, `protos/crossdock/schemas/{sources,writers}.json`, are how the controller checks `sources/*.yaml` and
`writers/*.yaml` without importing the agent: `{"kinds": {kind: JSON Schema}, "$defs": {name: JSON Schema}}`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from crossdock_agent.sources.base import kinds as source_kinds
from crossdock_agent.writers.base import kinds as writer_kinds

FOLDER = Path(__file__).resolve().parent.parent / "protos" / "crossdock" / "schemas"
TARGET = FOLDER / "sources.json"


def export(kinds: Mapping[str, Any] | None = None) -> bytes:
    """The content of one file, by default that of sources; the same bytes for the same settings."""
    known = sorted((kinds if kinds is not None else source_kinds()).items())
    schemas, definitions = msgspec.json.schema_components(
        [kind.settings for _, kind in known], ref_template="#/$defs/{name}"
    )
    document = {"kinds": dict(zip((name for name, _ in known), schemas, strict=True)), "$defs": definitions}
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    checking = parser.parse_args().check
    for word, kinds in (("source", source_kinds()), ("writer", writer_kinds())):
        target, fresh = FOLDER / f"{word}s.json", export(kinds)
        if not checking:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(fresh)
        elif not target.exists() or target.read_bytes().replace(b"\r\n", b"\n") != fresh:
            sys.exit(f"stale {word} settings schemas; run: python agent/export_schemas.py")
        print(f"schemas of {len(kinds)} {word} kinds are {'fresh' if checking else 'written'}")


if __name__ == "__main__":
    main()
