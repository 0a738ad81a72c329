# The commands people run. Each makes what it needs first (packaging/setup.sh).
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE :=
ROWS ?= 1000000
BYTES ?= 10000000000

EVERY ?= 1

.PHONY: demo test bench bench-drain bench-fleet bench-faults bench-felt bench-preview bench-delivery chaos killpoints \
  fuzz lint stubs pins setup

demo:            ## A small distributor, told as a story in a minute; KEEP=1 leaves it running
	@packaging/setup.sh demo
	@$(PY) -m crossdock_controller demo $(if $(KEEP),--keep)

test: lint       ## Everything CI runs: lint, types, layers, stubs, all tests
	@packaging/setup.sh test
	$(PY) -m pytest -q --cache-clear -n 2 --dist worksteal || $(PY) tests/again.py $$?

lint:
	@packaging/setup.sh test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) protos/generate.py --check
	$(PY) agent/export_schemas.py --check
	$(PY) controller/export_documents.py --check

bench:           ## Writes bench-results/*.{json,md}; ROWS=200000 for a quick one
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_transfer.py --rows $(ROWS) --out bench-results

bench-drain:     ## A backlog drains beside critical records; BYTES=1000000000 for a quick one; TMPDIR=a disk with 2.5x that
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_drain.py --bytes $(BYTES) --rows $(ROWS) --out bench-results

bench-fleet:     ## AGENTS on one controller for SECONDS, then it is killed: bench-results/fleet.{json,md}
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_fleet.py --agents $(or $(AGENTS),1000) --seconds $(or $(SECONDS),300) --out bench-results

bench-faults:    ## Beside rsyslog while both sides are killed: bench-results/faults.{json,md}
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_faults_rsyslog.py --out bench-results

bench-felt:      ## What a month-end burst costs the host, without and with the limits of a site; some minutes
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_felt.py --out bench-results $(FELT)

bench-preview:   ## What another mapping makes of RECORDS retained ones (100,000): bench-results/preview.{json,md}
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_preview.py --records $(or $(RECORDS),100000) --out bench-results

bench-delivery:  ## From intake to done for every kind of sink, beside plain Python; ROWS=20000 for a quick one
	@packaging/setup.sh bench
	$(PY) tests/bench/bench_delivery.py --records $(ROWS) --out bench-results

chaos:           ## Faults for SECONDS from SEED on, over SEEDS runs; OUT=dir writes the table there as chaos.md
	@packaging/setup.sh test
	PYTHONPATH=tests $(PY) -m chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) --seeds $(or $(SEEDS),1) \
	  $(if $(OUT),--out $(OUT)) \
	  --shown "make chaos SECONDS=$(or $(SECONDS),600) SEED=$(or $(SEED),1) SEEDS=$(or $(SEEDS),1)"

killpoints:      ## Kills every process at every point of a transfer; EVERY=10 each tenth, POWER=1 power cuts instead
	@packaging/setup.sh test
	$(PY) tests/chaos/killpoints.py --every $(EVERY) $(if $(POWER),--power) $(if $(FIRST),--first-start) --out killpoint-results

fuzz:            ## Bytes of strangers into every reader of them, for SECONDS in all; TARGET=batch for one, KEEP=1 keeps finds
	@packaging/setup.sh test
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install -q 'atheris>=3' || echo "fuzz: without atheris, blind mutations"
	PYTHONPATH="tests$${PYTHONPATH:+:$$PYTHONPATH}" nice $(PY) -m fuzz --seconds $(or $(SECONDS),600) $(if $(TARGET),--target $(TARGET)) $(if $(KEEP),--keep)

stubs:           ## After a change of protos/ or of a source's settings
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) protos/generate.py
	$(PY) agent/export_schemas.py
	$(PY) controller/export_documents.py

pins:            ## After a change of dependencies in pyproject.toml
	$(PY) -m pip install -q uv
	$(PY) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra dev --group build -o packaging/requirements/dev.txt pyproject.toml
