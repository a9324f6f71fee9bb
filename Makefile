# Two commands, each complete on a fresh machine: `make train` and `make test`.
# Both make .venv when it is missing, and install again when pyproject.toml has changed.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help train test live optimized test-all parity check format ci clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The newest Python comes first. A pyenv shim can exist and still fail, and Debian's python3 may
# lack ensurepip, so a candidate counts only if it runs and can make a virtual environment.
PYTHONS ?= python3.14 python3.13 python3.12 python3.11 python3 python
# Compiling, not computing, takes the time: two workers keep two cores busy.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

train: $(READY) ## train the default config on the Python standard library's source, in minutes
	$(BIN)/python train.py --config configs/default.py --workdir runs/default

test: $(READY) ## the default test suite: no torch, no network
	$(PYTEST) -m "not live and not slow and not parity"

live: $(READY) ## end to end: processes killed and resumed, devices, whole tasks, the pages' blocks
	$(PYTEST) -m "live and not slow"

optimized: $(READY) ## a few of the tests as users compile: the others do it without optimisation
	ZOO_TEST_OPTIMIZED=1 $(PYTEST) -m optimized

test-all: $(READY) ## all of these, and the slow tests
	$(PYTEST) -m "not parity"

parity: $(READY) ## against torch, transformers and sentence-transformers, which are installed first
	$(BIN)/pip install --quiet torch==2.13.0 && $(BIN)/pip install --quiet --editable '.[parity]'
	$(PYTEST) -m parity

check: $(READY) ## format, lint and types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ci: ## everything that continuous integration runs
	bash .ci/run

clean: ## remove the environment and the caches; runs/ stays
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

$(READY): pyproject.toml
	@set -eu; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for python in $(PYTHONS); do \
	    if "$$python" -c 'import ctypes, ensurepip, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	        >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "no working Python >= 3.11 among: $(PYTHONS)" >&2; \
	    echo "install one with its venv module, or name it: make PYTHONS=/path/to/python3.12 test" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$found ($$("$$found" --version))"; \
	  "$$found" -m venv --clear $(VENV); \
	fi; \
	for attempt in 1 2 3; do \
	  if $(BIN)/python -m pip install --quiet --retries 5 --editable '.[dev]'; then \
	    touch $@; exit 0; \
	  fi; \
	  echo "install failed (attempt $$attempt of 3)" >&2; sleep $$((attempt * 5)); \
	done; \
	exit 1
