# The verbs of the project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run install test bench soak lint format types check schema openapi lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

run: .venv/local ## serve on PORT (8000) from a private database with demo data, or from DATABASE_URL
	@exec $(BIN)/python -m gunicorn -c deploy/gunicorn.local.conf.py

install: .venv/local ## make the virtual environment with the service and its command line

test: .venv/dev ## run every test on a real PostgreSQL
	@$(BIN)/python -m pytest -n auto --dist loadfile

bench: .venv/dev ## measure the list at 1k to 1M images; writes docs/performance.md
	@$(BIN)/python -m tests.tools.bench

soak: .venv/dev ## break everything in full for most of an hour, and write docs/reliability.md
	@$(BIN)/python -m tests.tools.soak

lint: .venv/dev ## check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports --no-cache

format: .venv/dev ## put the code into the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test ## what has to pass before a change lands

schema: .venv/dev ## write sql/schema.sql anew from sql/migrations
	@$(BIN)/python -m tests.tools.schema

openapi: .venv/dev ## write docs/openapi.json anew from the code
	@$(BIN)/python -m tests.support.openapi

lock: ## write the lock files anew from pyproject.toml (needs uv)
	@uv pip compile $(LOCK) pyproject.toml -o requirements.lock
	@uv pip compile $(LOCK) pyproject.toml --extra embedded --group build -o requirements-local.lock
	@uv pip compile $(LOCK) pyproject.toml --extra embedded --group build --group dev -o requirements-dev.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

clean: ## remove the virtual environment; .state, with its data, stays
	rm -rf .venv

# What is installed is stamped with the lock file it came from; dev holds all that local does.
.venv/local: requirements-local.lock pyproject.toml
	@test .venv/dev -nt $< || { $(call install,$<); }
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml
	@$(call install,$<)
	@touch $@

define install
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
  || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
echo "installing from $(1)" >&2; \
test -x $(BIN)/pip || $(PYTHON) -m venv .venv; \
$(PIP) --require-hashes -r $(1) && $(PIP) --no-deps --no-build-isolation -e .
endef

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
