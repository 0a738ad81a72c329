"""Export the catalogue of documents: `python controller/export_documents.py`; with --check, fail when it is stale.

The result is `docs/reference/documents.md` and a JSON Schema for each entity in `docs/reference/schemas/`.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from crossdock_controller.documents.base import entities
from crossdock_controller.documents.reference import page, schema

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference"


def export() -> dict[str, bytes]:
    """Content by path below docs/reference."""
    found = {"documents.md": page().encode()}
    for name, entity in entities().items():
        body = msgspec.json.format(msgspec.json.encode(schema(entity), order="deterministic"), indent=1)
        found[f"schemas/{name}.json"] = body + b"\n"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    checking = parser.parse_args().check
    fresh = export()
    if checking:
        there = {p.relative_to(TARGET).as_posix() for p in (TARGET / "schemas").glob("*.json")} | {"documents.md"}
        stale = [n for n in fresh if n not in there or (TARGET / n).read_bytes().replace(b"\r\n", b"\n") != fresh[n]]
        stale += sorted(there - fresh.keys())
        if stale:
            sys.exit(f"stale: {', '.join(stale)}; run: python controller/export_documents.py")
    else:
        (TARGET / "schemas").mkdir(parents=True, exist_ok=True)
        for name, body in fresh.items():
            (TARGET / name).write_bytes(body)
    print(f"the catalogue of {len(fresh) - 1} documents is {'fresh' if checking else 'written'}")


if __name__ == "__main__":
    main()
