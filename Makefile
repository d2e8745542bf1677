.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help setup demo test test-all lint types format packages bench ci

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/nmc: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[demo,dev]'
	@touch $@

setup: $(BIN)/nmc ## make .venv with nmc (editable) and all tools

demo: setup ## compile the digits network and run it on the emulator
	$(BIN)/nmc demo

test: setup ## all tests but the slow ones
	$(BIN)/python -m pytest

test-all: setup ## every test
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup ## style and formatting, nothing is changed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## strict type check
	$(BIN)/mypy

format: setup ## apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

packages: ## rewrite the package list in pyproject.toml from the tree
	$(PYTHON) .ci/packages.py

bench: setup ## what a start costs; Loihi emulators (PEER_PYTHON='a b': those peers too)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/loihi_emulators.py $(addprefix --peer-python=,$(PEER_PYTHON))

ci: ## everything that CI runs, in fresh environments
	.ci/run
