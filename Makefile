# Two commands for a newcomer: `make demo` and `make test`. Everything else is below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help env demo test check bench corpus fuzz soak-raft chaos-raft chaos attack soak mutants clean

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

corpus: $(STAMP) ## CORPUS=FOLDER: real stack files mean the same here as to the official client
	CORPUS=$(abspath $(or $(CORPUS),../shared/corpus/dev)) $(BIN)/pytest -q -s tests/corpus

fuzz: $(STAMP)   ## N=200000 SEED=1: mutated stack files; nothing but errors with places may come of them
	$(BIN)/python tests/fuzz_stack_files.py --count $(or $(N),20000) --seed $(or $(SEED),1)

soak-raft: $(STAMP)  ## SEED=1 COUNT=1000 JOBS=1: that many histories of consensus, each from its seed
	$(BIN)/python tests/simulation/raft/soak.py --seed $(or $(SEED),1) --count $(or $(COUNT),1000) --jobs $(or $(JOBS),1)

chaos-raft: $(STAMP)  ## SEED=7 DURATION=120: kill, cut off and starve a real cluster; needs root
	$(BIN)/python -m benchmarks.chaos_raft --seed $(or $(SEED),1) --duration $(or $(DURATION),60)

chaos: $(STAMP)  ## SEED=7 DURATION=120: the same for a whole cluster that is worked with; needs root, and dockerd for one node
	$(BIN)/python -m benchmarks.chaos --seed $(or $(SEED),1) --duration $(or $(DURATION),60) $(ARGS)

attack: $(STAMP) ## CONNECTIONS=10000: silent connections against a manager's ports; needs root
	$(BIN)/python -m benchmarks.attack --connections $(or $(CONNECTIONS),10000)

soak: $(STAMP)   ## SEED=1 COUNT=1000: random histories of a simulated cluster, on all cores; prints the seeds that fail
	$(BIN)/python -m stackd.simulation --seed $(or $(SEED),1) --count $(or $(COUNT),1000) $(ARGS)

mutants: $(STAMP) ## SEED=1 COUNT=60: plant bugs, by hand (each has to be found) and by program
	$(BIN)/python tests/mutants/planted.py $(ARGS)
	$(BIN)/python tests/mutants/generated.py --seed $(or $(SEED),1) --count $(or $(COUNT),60)

clean:           ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
