# Everything from a fresh machine with make and Python 3.10 or newer:
#   make demo    see it work
#   make test    prove that it works
# Another interpreter or folder: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n auto

# pyright comes whole with its package: no looking for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# It looks at the packages of the first `python` on the path.
PYRIGHT = PATH="$(abspath $(BIN)):$$PATH" pyright
SOURCES := pyproject.toml memtrace/_version.py

.DEFAULT_GOAL := help
.PHONY: help venv demo docs test lint types floors pytest torture backends screenshots adapters unit lowest bench format clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.dev ## Make the virtual environment with everything for development

demo: $(VENV)/.demo ## Three agents at work over real files: the span tree, the memory curve
	@$(BIN)/memtrace demo

test: lint types floors pytest ## Lint, types, floors, then every test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(PYRIGHT)

floors: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo --no-cache

pytest: $(VENV)/.dev $(VENV)/.json
	$(BIN)/pytest $(PYTEST_ARGS)

torture: $(VENV)/.dev ## Every fault in full: 500 kills, 300 bit flips, 150 truncations, a full disk ...
	MEMTRACE_TORTURE=1 $(BIN)/pytest $(PYTEST_ARGS) -rP tests/faults

backends: $(VENV)/.dev $(VENV)/.phoenix $(VENV)/.mlflow ## The demo in Arize Phoenix and an MLflow server, with pictures (2 GB; needs Chromium)
	$(BIN)/pytest -n 0 tests/receivers/backends.py

screenshots: $(VENV)/.dev ## Pictures of a report for the documents (needs Chromium)
	$(BIN)/pytest -n 0 tests/receivers/pictures.py

ADAPTERS := anthropic google-adk langchain llama-index openai openai-agents pydantic-ai strands

adapters: $(ADAPTERS:%=adapter-%) adapter-instrumentor ## Each framework's adapter against the framework itself, in an environment of its own

adapter-%: ## One of them
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet --editable ".[test,$*]" \
		$(if $(filter langchain,$*),langchain-openai) $(if $(filter anthropic,$*),openai) \
		$(if $(filter google-adk,$*),"sqlalchemy[asyncio]>=2") \
		$(if $(filter llama-index,$*),llama-index-llms-openai llama-index-llms-openai-like) \
		$(if $(filter strands,$*),anthropic openai)
	.venv-$*/bin/pytest $(PYTEST_ARGS) tests/adapters/test_$(subst -,_,$*).py tests/adapters/test_examples.py

adapter-instrumentor: ## The real clients observed, under `opentelemetry-instrument` too
	@test -x .venv-instrumentor/bin/python || $(PYTHON) -m venv .venv-instrumentor
	@.venv-instrumentor/bin/python -m pip --disable-pip-version-check install --quiet \
		--editable ".[test,instrument]" anthropic openai google-genai
	.venv-instrumentor/bin/pytest $(PYTEST_ARGS) tests/adapters/test_instrumentor.py

docs: $(VENV)/.dev ## The documentation site, in build/site; what is not right in it is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file ops/site/mkdocs.yml
	@echo "build/site/index.html"

unit: $(VENV)/.test ## The unit tests alone, without the development tools
	$(BIN)/pytest $(PYTEST_ARGS) tests/unit

lowest: $(VENV)/.lowest ## The unit tests with the oldest requirements that are allowed (give it a VENV of its own)
	$(BIN)/pytest $(PYTEST_ARGS) tests/unit

bench: $(VENV)/.dev ## Every figure of the README, measured again
	@set -e; for benchmark in benchmarks/[!_]*.py; do echo "$$benchmark"; $(BIN)/python "$$benchmark"; done

format: $(VENV)/.dev ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what these targets made
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find memtrace tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of dependencies, so that a second run installs nothing; `dev` has the others in it.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "memtrace needs Python 3.10 or newer; name one: make PYTHON=/path/to/python3 ..."; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: extras = cli
$(VENV)/.test: extras = test
$(VENV)/.dev: extras = dev

$(VENV)/.demo $(VENV)/.test $(VENV)/.dev: $(SOURCES) | $(BIN)/python
	@echo "Installing memtrace-otel[$(extras)] into $(VENV)"
	@$(PIP) --editable ".[$(extras)]"
	@touch $@ $(if $(filter dev,$(extras)),$(VENV)/.demo $(VENV)/.test)

# Programs that the demo is sent to, each with hundreds of packages.
$(VENV)/.phoenix: package = arize-phoenix
$(VENV)/.mlflow: package = mlflow
$(VENV)/.phoenix $(VENV)/.mlflow: | $(BIN)/python
	@echo "Installing $(package) into $(@:$(VENV)/.%=$(VENV)/%)"
	@$(PYTHON) -m venv $(@:$(VENV)/.%=$(VENV)/%)
	@$(@:$(VENV)/.%=$(VENV)/%)/bin/python -m pip --disable-pip-version-check install --quiet $(package)
	@touch $@

# Beside the others, because it asks for versions of its own.
$(VENV)/.json: $(SOURCES) | $(BIN)/python
	@echo "Installing the exporter of OTLP's JSON into $(VENV)/json"
	@$(PYTHON) -m venv $(VENV)/json
	@$(VENV)/json/bin/python -m pip --disable-pip-version-check install --quiet \
		--editable . "opentelemetry-exporter-otlp-json-http>=0.66b0"
	@touch $@

$(VENV)/.lowest: $(SOURCES) | $(BIN)/python
	@echo "Installing memtrace-otel[test] with its oldest requirements into $(VENV)"
	@sed -n '/^dependencies/,/^]/s/^ *"\([a-z-]*\)>=\([0-9.]*\).*/\1==\2/p' pyproject.toml > $(VENV)/lowest.txt
	@$(PIP) --constraint $(VENV)/lowest.txt --editable ".[test]"
	@touch $@
