"""Generate the checked-in stubs: `python protos/generate.py`; with --check, fail when they are stale."""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PROTOS = sorted((HERE / "crossdock" / "v1").glob("*.proto"))


def generate(target: Path) -> None:
    arguments = [
        "protoc",
        f"-I{HERE}",
        f"--python_out={target}",
        f"--mypy_out={target}",
        f"--grpc_python_out={target}",
        *(str(p) for p in PROTOS),
    ]
    code = protoc.main(arguments)
    if code != 0:
        raise SystemExit(f"protoc failed with {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        generate(HERE)
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = sorted((Path(scratch) / "crossdock" / "v1").glob("*_pb2*"))
        stale = [f.name for f in fresh if not _same(f, HERE / "crossdock" / "v1" / f.name)]
    if stale or not fresh:
        sys.exit(f"stale stubs: {', '.join(stale)}; run: python protos/generate.py")
    print(f"{len(fresh)} stub files are fresh")


def _same(new: Path, old: Path) -> bool:
    return old.exists() and filecmp.cmp(new, old, shallow=False)


if __name__ == "__main__":
    main()
