# make demo [CONFIG=configs/….yaml] [SET="rounds=5 seed=1"]   install and run one experiment with `flwr run`
# make test   install and pass the checks and tests; make test-deployment: containers too
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

.PHONY: demo test test-deployment bench paper check install clean

demo: install
	$(BIN)/fednc run $(CONFIG) $(SET)

test: install check
	$(BIN)/python -m pytest --ignore tests/integration/test_compose.py --ignore tests/integration/test_run_life.py

# the images and compose files, and a run's whole life, on real processes: on a machine with nothing else to do
test-deployment: install
	$(BIN)/python -m pytest -n 0 tests/integration/test_run_life.py tests/integration/test_compose.py

bench: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench --keep $(BENCH)

# FedLoGe's eight CIFAR cells, one after the other; what MINUTES leave undone, the same command goes on with
METHODS ?= fedavg,fedloge
SEEDS ?= 0
MINUTES ?= 1000000
paper: install
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); for cell in configs/paper/*.yaml; do \
		$(BIN)/fednc compare $$cell $(SET) --methods $(METHODS) --seeds $(SEEDS) \
			--minutes $$(( ($$end - $$(date +%s)) / 60 )) || exit 1; done

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
