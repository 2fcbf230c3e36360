# Two commands for a newcomer: `make demo` and `make test`. Everything else is below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help env demo test check bench fuzz clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

env: $(STAMP)    ## make the environment in .venv

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

demo: $(STAMP)   ## one node, the hello stack, a URL; Ctrl-C takes everything down (ARGS=--once: check and exit)
	@$(BIN)/python -m stackd.cli.demo $(ARGS)

check: $(STAMP)  ## lint, types, import contracts, unit and property tests: under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit tests/property

test: $(STAMP)   ## everything this machine can run; says what it did not run and why
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests

bench: $(STAMP)  ## NAME=single-node: figures as JSON lines
	$(BIN)/python -m benchmarks.run $(NAME) $(ARGS)

fuzz: $(STAMP)   ## N=200000 SEED=1: mutated stack files; nothing but errors with places may come of them
	$(BIN)/python tests/fuzz_stack_files.py --count $(or $(N),20000) --seed $(or $(SEED),1)

clean:           ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
