# make demo [CONFIG=configs/….yaml] [SET="rounds=5 seed=1"]   install and run one experiment with `flwr run`
# make test   install and pass the checks and the tests: one of each kind, in minutes
# make test-deep   the repeats, killed processes, runs in containers where there is Docker, and more generated examples
# make bench [BENCH="--only overhead,wire"]   speed as ratios, kept in a history; on a machine with nothing else to do
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
CONSTRAINTS ?= constraints.txt
CONFIG ?= configs/digits_lt.yaml
BIN := .venv/bin
# what every Flower command in this environment should do: use the environment, stay offline
FLOWER_ENV := FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 \
	RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0

.PHONY: demo test test-deep bench paper check install clean

demo: install
	$(BIN)/fednc run $(CONFIG) $(SET)

# what stops runs by Flower's commands wants them answered in time: no other tests beside it
ALONE := tests/integration/test_run_life.py

test: install check
	$(BIN)/python -m pytest -r sfE -m "not deep"

test-deep: install
	$(BIN)/python -m pytest -r sfE -m "deep or hypothesis" --hypothesis-profile deep --ignore $(ALONE)
	$(BIN)/python -m pytest -n 0 $(ALONE)

bench: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench --keep $(BENCH)

# FedLoGe's eight CIFAR cells, one after the other; what MINUTES leave undone, the same command goes on with
# make paper [CELLS=configs/paper/cifar10_if100_a05.yaml] [METHODS=fedloge] [SEEDS=0,1] [MINUTES=5] [SET="data-dir=/data"]
CELLS ?= $(wildcard configs/paper/*.yaml)
METHODS ?= fedavg,fedloge
SEEDS ?= 0
MINUTES ?= 1000000
paper: install
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); for cell in $(CELLS); do \
		left=$$(( end - $$(date +%s) )); \
		test $$left -gt 0 || { echo "the time is up before $$cell; the same command goes on"; break; }; \
		$(BIN)/fednc compare $$cell $(SET) --methods $(METHODS) --seeds $(SEEDS) \
			--minutes $$(printf '%d.%02d' $$(( left / 60 )) $$(( left % 60 * 100 / 60 ))) || exit 1; done

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

.venv/installed: pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "FedNC needs Python 3.11 or 3.12 with venv (Debian: python3-venv): install it, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint $(CONSTRAINTS)
	@# one line that Python reads at start: plain `flwr run .` then needs no settings by hand
	@$(BIN)/python -c "import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path('purelib'), 'fednc_flower.pth').write_text('import os; ' \
	+ '; '.join(f\"os.environ.setdefault({k!r}, {v!r})\" for k, v in (p.split('=') for p in '$(FLOWER_ENV)'.split())) + '\n')"
	@touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
