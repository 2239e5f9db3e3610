# Development tasks; run `make` to list them.
# Tools run as `python -m`, because their scripts fail if the path of .venv contains a space.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run install test container-test bench soak lint format check schema openapi lock clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' Makefile \
	  | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

run: .venv/local ## serve demo data from an embedded database, or DATABASE_URL, on PORT (8000)
	@exec $(BIN)/python -m gunicorn -c deploy/gunicorn.local.conf.py

install: .venv/local ## create the virtual environment with the service and the command line

test: .venv/dev ## run all tests on a real PostgreSQL
	@$(BIN)/python -m pytest -n auto --dist loadfile

container-test: .venv/dev ## build the image and run the compose stack with docker or podman
	@HARBORGUARD_TEST_CONTAINERS=1 $(BIN)/python -m pytest -p no:randomly -rsP tests/e2e/test_containers.py

bench: .venv/dev ## measure the image list at 1k to 1M images and write docs/performance.md
	@$(BIN)/python -m tests.tools.bench

soak: .venv/dev ## test under load and faults for about an hour and write docs/reliability.md
	@$(BIN)/python -m tests.tools.soak

lint: .venv/dev ## check style, types and import directions
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m basedpyright
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run()' --no-cache

format: .venv/dev ## format the code
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff check --fix .

check: lint test ## run all checks that a change must pass

schema: .venv/dev ## write sql/schema.sql from sql/migrations
	@$(BIN)/python -m tests.tools.schema

openapi: .venv/dev ## write docs/openapi.json from the code
	@$(BIN)/python -m tests.tools.openapi

lock: ## write the lock files from pyproject.toml (needs uv)
	@$(COMPILE) -o requirements.lock
	@$(COMPILE) --extra embedded --group build -o requirements-local.lock
	@$(COMPILE) --extra embedded --group build --group dev -o requirements-dev.lock

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url pyproject.toml

clean: ## remove the virtual environments, but not the data in .state
	rm -rf .venv .venv-lowest .venv-mutants .mutants

# These files record when a lock file was installed. The dev lock includes the local one.
.venv/local: requirements-local.lock pyproject.toml
	@test .venv/dev -nt $< || { $(call install,$<); }
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml
	@$(call install,$<)
	@touch $@

# A lock file names everything to install. Without --no-deps, pip asks the index for each package
# and refuses a lock file once a newer release of an extra's package (coverage[toml]) exists.
define install
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "Python 3.11 or newer is required: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
    exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
  || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; \
    exit 1; }; \
echo "installing from $(1)" >&2; \
test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
$(PIP) --require-hashes --no-deps -r $(1) && $(PIP) --no-deps --no-build-isolation -e .
endef

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Further checks. CI runs `coverage` on PostgreSQL 15.

.PHONY: coverage test-postgres15 test-matrix test-lowest mutants lock-extra

# Minimum branch coverage, in percent, of the packages that the target checks separately.
COVERAGE_FLOOR := 98
POSTGRES15 ?= /usr/lib/postgresql/15/bin
PYTEST := -m pytest -n auto --dist loadfile

coverage: .venv/dev ## run the unit, store and API tests and check the branch coverage
	@$(BIN)/python $(PYTEST) --cov --cov-report= tests/unit tests/store tests/api
	@$(BIN)/python -m coverage report
	@for package in store/images auth reports; do \
	  $(BIN)/python -m coverage report --include="harborguard/$$package/*" \
	    --fail-under=$(COVERAGE_FLOOR) || exit 1; \
	done

test-postgres15: .venv/dev ## run the store and API tests on an installed PostgreSQL 15
	@$(BIN)/python -m tests.tools.postgres_cluster $(POSTGRES15) \
	  $(BIN)/python $(PYTEST) tests/store tests/api

test-matrix: .venv/dev ## run the unit, store and API tests on each installed Python and PostgreSQL
	@$(BIN)/python -m tests.tools.matrix

test-lowest: .venv-lowest/installed ## run the unit, store and API tests with the lowest versions
	@.venv-lowest/bin/python $(PYTEST) tests/unit tests/store tests/api

mutants: .venv-mutants/installed ## mutate the query builder and credentials, print the survivors
	@.venv-mutants/bin/python -m tests.tools.mutants

lock-extra: ## write the lock files of test-lowest and mutants (needs uv)
	@$(COMPILE) --resolution lowest-direct --extra embedded --group build --group test \
	  -o requirements-lowest.lock
	@$(COMPILE) --extra embedded --group mutants -o requirements-mutants.lock

.venv-lowest/installed: requirements-lowest.lock pyproject.toml
	@$(call install-extra,.venv-lowest,$<)
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation -e .
	@touch $@

.venv-mutants/installed: requirements-mutants.lock
	@$(call install-extra,.venv-mutants,$<)
	@touch $@

define install-extra
echo "installing from $(2)" >&2; \
$(PYTHON) -m venv --clear $(1) && \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check \
  --require-hashes --no-deps -r $(2)
endef
