"""One target under atheris (libFuzzer): `python -m fuzz.atheris_engine TARGET SECONDS CORPUS CRASHES REPORT`."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    name, seconds, corpus, crashes, _report = sys.argv[1:]
    atheris: Any = importlib.import_module("atheris")  # has no types, and is not installed everywhere
    with atheris.instrument_imports(include=["crossdock", "crossdock_agent", "crossdock_controller"]):
        from fuzz import targets

    def one(data: bytes) -> None:
        targets.run(name, data)

    options = [
        sys.argv[0], corpus, f"-max_total_time={int(float(seconds)) or 1}", f"-artifact_prefix={crashes}/",
        "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup(options, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
