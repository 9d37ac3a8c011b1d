# One verb a line; `make demo` and `make test` are all that a newcomer needs. Each makes .venv by itself.
.PHONY: demo test test-long faults chaos lab lint bench soak lock clean
BIN := .venv/bin

.venv/.made: requirements.lock pyproject.toml .ci/bootstrap
	@.ci/bootstrap

demo: .venv/.made  ## a real load test of the sample shop, recorded, reported: reports/
	@$(BIN)/loadbench demo

PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder

test: .venv/.made  ## the tests; Chromium is brought where the machine allows it
	@.ci/chromium
	@$(PYTEST) -m "not long and not faults"

test-long: .venv/.made  ## those that would make `make test` longer than ten minutes
	@.ci/chromium
	@$(PYTEST) -m long

faults: .venv/.made  ## every row of the fault matrix: processes killed and frozen, networks and disks that fail
	@$(PYTEST) --numprocesses 2 -m faults

chaos: .venv/.made  ## ten minutes of faults at random on one run; CHAOS_SEED repeats one
	@CHAOS_SECONDS=600 $(BIN)/python -m pytest -s tests/faults/test_chaos.py

lab: .venv/.made  ## JupyterLab in notebooks/
	@$(BIN)/loadbench lab

lint: .venv/.made
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb
	@$(BIN)/python .ci/audit

bench: .venv/.made  ## ratios of paired runs on this machine
	@$(BIN)/python -m tests.bench

soak: .venv/.made  ## an hour of 200 intervals/s into one receiver: does anything grow? SOAK_SECONDS makes it shorter
	@$(BIN)/python -m tests.bench.soak

lock: .venv/.made  ## resolve requirements.lock anew from pyproject.toml
	@UV=$$(ls .tools/uv/bin/uv .tools/venv/bin/uv 2>/dev/null | head -n 1); \
	$$UV pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url \
	--no-header --upgrade pyproject.toml --output-file requirements.lock

clean:
	@rm -rf .venv .tools
