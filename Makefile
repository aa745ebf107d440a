# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-slow test-reference test-lowest test-newest test-cluster check format clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(READY)  ## Make .venv and install everything, pinned

# torch first and pinned: resolving it with the rest may pull gigabytes of CUDA packages.
$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "lorasweep needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

quickstart: $(READY)  ## Run a real sweep on the embedded base: no downloads of models, no GPU
	$(BIN)/lorasweep sweep quickstart

test: $(READY)  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(READY)  ## Run the heavier checks too (real kills, real sweeps, a real tracking server)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

# Beside the environment, not in it: `lycoris-lora` would bring versions of its own.
REFERENCE := $(VENV)/reference
test-reference: $(READY)  ## Compare with LyCORIS and bitsandbytes themselves, which `make test` does not install
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(REFERENCE) \
		lycoris-lora==4.1.3 einops toml bitsandbytes==0.50.2
	OMP_NUM_THREADS=1 PYTHONPATH=$(REFERENCE) $(BIN)/python -m pytest -n auto -k "lycoris or 8bit" \
		tests/unit/components/adapters tests/unit/components/optimizers tests/contracts

LEANING := tests/unit/components tests/unit/config tests/unit/results tests/unit/trial tests/contracts
LOWEST := $(VENV)/lowest
test-lowest: $(READY)  ## Run what leans on libraries at the lowest versions that pyproject.toml allows (torch: as pinned)
	$(PYTHON) -m venv $(LOWEST)
	{ grep '^torch==' constraints.txt; sed -nE '/"torch>/!s/^ +"([A-Za-z0-9_-]+)>=([0-9.]+).*/\1==\2/p' pyproject.toml; } > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c $(LOWEST)/lowest.txt "$$(grep '^torch==' constraints.txt)"
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c $(LOWEST)/lowest.txt -e '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n auto --dist worksteal $(LEANING)

NEWEST := $(VENV)/newest
test-newest: $(READY)  ## Run the same at the newest versions, which an install without constraints gets (torch: as pinned)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n auto --dist worksteal $(LEANING)

test-cluster: $(READY)  ## Install Ray and run the tests that need it: local clusters, real kills, a few minutes
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or not slow" -k "ray or partition" tests/contracts/test_launchers.py \
		tests/unit/sweep/test_ray.py tests/unit/sweep/test_partition.py

check: $(READY)  ## Lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and caches; outputs/ and mlruns/ are kept
	rm -rf $(VENV) cache .pytest_cache .ruff_cache .mypy_cache
