# Everything runs from a bare clone: Python 3.10 or later and make are all it needs.
PYTHON ?= python3
VENV ?= .venv
RECIPE ?= recipes/parity/quickstart.yaml
ARGS ?=
WORKERS ?= 2
# One worker a core: more threads in each would only take turns.
TEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest
SLOW = slow or hub or multiprocess or deepspeed or soak

# The constraints hold for the isolated build environment too (by its newer name from pip 25.3 on).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP = $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart env env-dev env-deepspeed test test-fast test-slow test-deepspeed test-soak check format clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

quickstart: $(VENV)/.installed  ## Install, then distil sparse parity three ways and write the report
	$(VENV)/bin/hf-distill run $(RECIPE) $(ARGS)

env: $(VENV)/.installed  ## Make the virtual environment (.venv, or VENV=folder)
env-dev: $(VENV)/.installed-dev  ## Add what tests and checks need
env-deepspeed: $(VENV)/.installed-deepspeed  ## Add DeepSpeed, which builds its extensions when they are first used

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is too old: give Python 3.10 or later, as in make PYTHON=python3.12")'
	@echo "Installing hf-distill into $(VENV) (torch is large; the first time takes a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-deepspeed: $(VENV)/.installed-dev
	@echo "Installing DeepSpeed into $(VENV)"
	@DS_BUILD_OPS=0 $(PIP) --editable '.[dev,deepspeed]'
	@touch $@

test: $(VENV)/.installed-dev  ## Run the tests (all but the deepspeed and soak tiers)
	$(TEST) -n $(WORKERS) --dist worksteal -m "not deepspeed and not soak" $(ARGS)

test-fast: $(VENV)/.installed-dev  ## Run the quick tests only, in under two minutes on two cores
	$(TEST) -n $(WORKERS) --dist worksteal -m "not ($(SLOW))" $(ARGS)

test-slow: $(VENV)/.installed-dev  ## Run what test-fast leaves out: slow, hub, multiprocess, deepspeed, soak
	$(TEST) -m "$(SLOW)" $(ARGS)

test-deepspeed: $(VENV)/.installed-deepspeed  ## Run the DeepSpeed tier, in about ten minutes; it needs a C++ compiler
	PATH="$(abspath $(VENV))/bin:$$PATH" $(TEST) -m deepspeed $(ARGS)

test-soak: $(VENV)/.installed-dev  ## Run the soak tier: 50 random kills, and every run ends as the undisturbed one
	$(TEST) -m soak $(ARGS)

check: $(VENV)/.installed-dev  ## Lint, check format and types, run the meta-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy hf_distill
	$(TEST) -q tests/meta

format: $(VENV)/.installed-dev  ## Format the code and sort the imports
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## Remove the environment and what builds and tests left (keeps runs/)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find hf_distill tests scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
