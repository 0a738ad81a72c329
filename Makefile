# The commands people run. Each makes what it needs first (packaging/setup.sh).
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE :=
ROWS ?= 1000000
BYTES ?= 10000000000

.PHONY: demo test bench bench-drain lint stubs pins setup

demo:            ## A small distributor, told as a story in a minute; KEEP=1 leaves it running
	@packaging/setup.sh demo
	@$(PY) -m crossdock_controller demo $(if $(KEEP),--keep)

test: lint       ## Everything CI runs: lint, types, layers, stubs, all tests
	@packaging/setup.sh test
	$(PY) -m pytest -q -n 2 --dist worksteal

lint:
	@packaging/setup.sh test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) protos/generate.py --check
	$(PY) agent/export_schemas.py --check

bench:           ## Writes bench-results/*.{json,md}; ROWS=200000 for a quick one
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_transfer.py --rows $(ROWS) --out bench-results

bench-drain:     ## A backlog drains beside critical records; BYTES=1000000000 for a quick one; TMPDIR=a disk with 2.5x that
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_drain.py --bytes $(BYTES) --rows $(ROWS) --out bench-results

stubs:           ## After a change of protos/ or of a source's settings
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) protos/generate.py
	$(PY) agent/export_schemas.py

pins:            ## After a change of dependencies in pyproject.toml
	$(PY) -m pip install -q uv
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra dev --group build -o packaging/requirements/dev.txt pyproject.toml
