# Every command a person or CI needs. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The comparisons with real sinabs have an environment of their own: torch is large.
SINABS_VENV ?= .venv-sinabs
SINABS_PYTHON ?= $(PYTHON)

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-sinabs test-pythons check check-wheel protos clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.server ## real digits through gRPC, check, queue and two simulated boards
	@$(BIN)/python examples/demo.py

serve: $(VENV)/.server ## a server on 127.0.0.1:50051 with two simulated boards
	$(BIN)/speckfarm-server serve

test: $(VENV)/.dev ## the whole test suite; needs no torch and no root
	$(BIN)/python -m pytest

test-sinabs: $(SINABS_VENV)/.ready ## comparisons with real sinabs and torch
	$(SINABS_VENV)/bin/python -m pytest -c pyproject.toml tests/sinabs

check: $(VENV)/.dev ## lint, types, import rules, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/python tools/check_breaking.py

check-wheel: ## build the wheel and try it in new environments: client alone, then with the server
	$(PYTHON) tools/check_wheel.py

test-pythons: ## all tests but kills and faults, on each Python from 3.10 to 3.13 that is installed
	tools/test_pythons.sh

protos: $(VENV)/.dev ## make client/speckfarm/v1 again after an edit of protos/
	$(BIN)/python tools/generate_protos.py
	rm -rf .mypy_cache

clean: ## remove environments, stubs and caches
	rm -rf $(VENV) $(SINABS_VENV) client/speckfarm/v1 .mypy_cache .pytest_cache .ruff_cache .hypothesis

PACKAGE := pyproject.toml hatch_build.py tools/generate_protos.py $(wildcard protos/speckfarm/v1/*.proto)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: $(BIN)/python $(PACKAGE)
	$(BIN)/python -m pip install -q -e '.[server]'
	@touch $@

$(VENV)/.dev: $(BIN)/python $(PACKAGE)
	$(BIN)/python -m pip install -q -e '.[server,dev]'
	@touch $@ $(VENV)/.server

$(SINABS_VENV)/.ready: tests/sinabs/requirements.txt $(PACKAGE)
	$(SINABS_PYTHON) -m venv $(SINABS_VENV)
	$(SINABS_VENV)/bin/python -m pip install -q -r tests/sinabs/requirements.txt
	$(SINABS_VENV)/bin/python -m pip install -q -e '.[server]'
	@touch $@
