# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-all drill lint types benchmark clean

# The committed cells are in results: RESULTS=mine trains them anew.
RESULTS ?= results
quickstart: $(VENV)/.installed
	$(BIN)/bench run configs/quickstart.yaml --results $(RESULTS)

# What is not marked slow: a few minutes on two cores.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The slow tier as well: every method, Ray, the reports of committed folders.
test-all: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2

# About ten minutes on two cores: a sweep is killed at random every few seconds, and must come to the same.
drill: $(VENV)/.installed
	$(BIN)/python tests/drills/kills.py

# Some hours on two cores; one alone with BENCHMARKS=training. Leave the machine to it.
# DATA: a folder of LLM-Adapters' JSON; without it, the hub.
BENCHMARKS ?= training together growth evaluation scale
benchmark: $(VENV)/.installed
	set -e; for one in $(filter-out scale,$(BENCHMARKS)); do \
		$(BIN)/python tests/benchmarks/$$one.py $(if $(DATA),--data $(DATA)); done
	$(if $(filter scale,$(BENCHMARKS)),$(BIN)/python tests/benchmarks/scale.py)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

# torch first, with its own dependencies (a CUDA build needs its nvidia packages); then exactly what is locked.
$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV)
