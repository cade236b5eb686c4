# Every command a person or CI needs. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The comparisons with real sinabs have an environment of their own: torch is large.
SINABS_VENV ?= .venv-sinabs
SINABS_PYTHON ?= $(PYTHON)
# The vendor's validator for `make vendor`: samna 0.7.1.0 is the last public one, for Python <= 3.10.
VENDOR_VENV ?= .venv-vendor
VENDOR_PYTHON ?= $(lastword $(shell command -v python3.10) $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.10.*/bin/python))
COUNT ?= 20000
# Processes that run tests. More than cores make the host late for what has to come in time.
WORKERS ?= 2
MUTATIONS ?= 100000

# Suites whose claims hold on any board.
ON_DEVKITS := boards real_jobs client_server camera_jobs vendor_models readout_farm findings bad_settings bad_models bad_recordings

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-double test-sinabs test-pythons vendor fuzz check check-wheel docs-tables protos clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.server ## real digits through gRPC, check, queue and two simulated boards
	@$(BIN)/python examples/demo.py

serve: $(VENV)/.server ## a server on 127.0.0.1:50051 with two simulated boards
	$(BIN)/speckfarm-server serve

test: $(VENV)/.dev ## the whole test suite; needs no torch and no root
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-double: $(VENV)/.dev ## tests of jobs, settings and models again, on devkits of the double of samna; real time: 8 min
	SPECKFARM_TEST_BOARDS=double $(BIN)/python -m pytest -m "not simulated" --timeout 300 $(addprefix tests/test_,$(addsuffix .py,$(ON_DEVKITS)))

test-sinabs: $(SINABS_VENV)/.ready ## comparisons with real sinabs and torch
	$(SINABS_VENV)/bin/python -m pytest -c pyproject.toml tests/sinabs

vendor: $(VENV)/.dev $(VENDOR_VENV)/.ready ## compare COUNT fresh configurations, JSON and objects with the vendor's own library
	$(BIN)/python tools/vendor_agreement.py --count $(COUNT) --python $(VENDOR_VENV)/bin/python
	$(BIN)/python tools/vendor_json_proof.py --python $(VENDOR_VENV)/bin/python
	$(BIN)/python tools/samna_writer_proof.py --python $(VENDOR_VENV)/bin/python --count $$(( ($(COUNT) + 3) / 4 ))

fuzz: $(VENV)/.dev ## MUTATIONS damaged and hostile model files through the parser and the check
	$(BIN)/python -m tests.fuzz_models --count $(MUTATIONS)

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

test-pythons: ## all tests but kills, faults and real time, on each other Python from 3.10 to 3.13 that is installed
	tools/test_pythons.sh

docs-tables: $(VENV)/.dev ## bring the table of the twin's assumptions in docs/explanation/twin.md up to date
	$(BIN)/python tools/assumptions_table.py --write

protos: $(VENV)/.dev ## make client/speckfarm/v1 again after an edit of protos/
	$(BIN)/python tools/generate_protos.py
	rm -rf .mypy_cache

clean: ## remove environments, stubs and caches
	rm -rf $(VENV) $(SINABS_VENV) $(VENDOR_VENV) client/speckfarm/v1 .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

$(VENDOR_VENV)/.ready:
	@[ -n "$(VENDOR_PYTHON)" ] || { echo "No Python 3.10 was found; samna 0.7.1.0 needs it. Install one (pyenv install 3.10, or your" \
	  "system's python3.10 with its venv package), or name one: make vendor VENDOR_PYTHON=/path/to/python3.10"; exit 1; }
	$(VENDOR_PYTHON) -m venv $(VENDOR_VENV)
	$(VENDOR_VENV)/bin/python -m pip install -q samna==0.7.1.0 numpy
	@touch $@
