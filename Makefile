# Everything starts here; `make` lists the targets. Needs Python 3.11 and nothing else, but for a Kafka on this machine
# (the demo, the tests) Java and Maven: environments are made from the locks in requirements/, each by a stamp that is
# older or younger than its lock.
PYTHON ?= python3.11

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

BIN := .venv/bin
UV := .venv-uv/bin/uv
# Interpreters come from the machine, never from the network.
export UV_PYTHON_DOWNLOADS := never

# ---------------------------------------------------------------- what people call

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: .venv-demo/.stamp ## a small local judge scores samples, then the pipeline makes training data; see demo-out/
	@.venv-demo/bin/python -m themis_sidecar.demo
	@scripts/system-packages $(PYTHON) java=openjdk-17-jre-headless mvn=maven
	@.venv-demo/bin/python -m themis_pipeline.demo

.PHONY: test
test: check .venv-trl/.stamp ## all checks, then all tests, those of the trainers once more with the newest TRL
	@scripts/system-packages $(PYTHON) chromium=chromium java=openjdk-17-jre-headless mvn=maven "cc=gcc libc6-dev"
	@$(BIN)/pytest tests
	@THEMIS_TRL=newest .venv-trl/bin/python -m pytest tests/trainers

.PHONY: test-cluster
test-cluster: .venv/.stamp ## the runner on three brokers, which are killed one after the other; takes some minutes
	@scripts/system-packages $(PYTHON) java=openjdk-17-jre-headless mvn=maven
	@$(BIN)/pytest -m cluster tests/cluster

.PHONY: check
check: check-format check-lint check-types check-imports check-proto check-locks ## format, lint, types, imports, contract, locks

.PHONY: bench
bench: .venv/.stamp ## run every benchmark, or one: make bench NAME=serving ARGS=...
	@PYTHON=$(BIN)/python scripts/bench "$(NAME)" $(ARGS)

.PHONY: format
format: .venv/.stamp ## format the code and fix what the linter can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: proto
proto: .venv-proto/.stamp ## regenerate proto/themis_proto from proto/themis
	@scripts/proto

.PHONY: baseline
baseline: .venv/.stamp ## at a release: the contract as it is now becomes the one that may not break
	@$(BIN)/buf build proto --exclude-source-info -o proto/baseline.json

.PHONY: lock
lock: .venv-uv/.stamp ## recompile the locks; ARGS=--upgrade takes the newest versions
	@UV=$(UV) scripts/lock $(ARGS)

.PHONY: clean
clean: ## remove environments, caches and outputs
	rm -rf .venv .venv-demo .venv-proto .venv-trl .venv-uv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
		.hypothesis benchmarks/out demo-out dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the parts of check

.PHONY: check-format check-lint check-types check-imports check-proto check-locks
check-format: .venv/.stamp
	@$(BIN)/ruff format --check

check-lint: .venv/.stamp
	@$(BIN)/ruff check

# The client goes into other people's environments: it has to hold for every Python that we support.
check-types: .venv/.stamp
	@$(BIN)/mypy proto/themis_proto sidecar pipeline tests scripts examples $(wildcard benchmarks/*.py)
	@for version in 3.10 3.14; do $(BIN)/mypy --python-version $$version -p themis_proto -p themis_chat -p themis_client; done

check-imports: .venv/.stamp
	@$(BIN)/lint-imports --no-logo

check-proto: .venv/.stamp .venv-proto/.stamp
	@$(BIN)/buf lint proto
	@$(BIN)/buf breaking proto --against proto/baseline.json
	@scripts/proto --check

check-locks: .venv/.stamp
	@$(BIN)/python scripts/check_locks.py

# ---------------------------------------------------------------- environments

.venv-uv/.stamp: requirements/uv.txt
	@scripts/system-packages $(PYTHON)
	@echo "making .venv-uv"
	@$(PYTHON) -m venv --clear .venv-uv
	@.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
		--requirement requirements/uv.txt
	@touch $@

# $(call environment,DIRECTORY,LOCK): exactly what the lock says; wheels only, so that nothing is compiled.
define environment
@echo "making $(1) from $(2)"
@$(UV) venv --quiet --no-project --allow-existing --python .venv-uv/bin/python $(1)
@$(UV) pip sync --quiet --python $(1) --require-hashes --no-build $(2)
endef

# $(call project,DIRECTORY): this repository itself, editable, built by the hatchling that the lock names.
define project
@$(UV) pip install --quiet --python $(1) --no-deps --no-build-isolation --no-index --editable .
endef

.venv/.stamp: requirements/test.txt pyproject.toml | .venv-uv/.stamp
	$(call environment,.venv,requirements/test.txt)
	$(call project,.venv)
	@touch $@

.venv-demo/.stamp: requirements/demo.txt pyproject.toml | .venv-uv/.stamp
	$(call environment,.venv-demo,requirements/demo.txt)
	$(call project,.venv-demo)
	@touch $@

.venv-trl/.stamp: requirements/trl.txt pyproject.toml | .venv-uv/.stamp
	$(call environment,.venv-trl,requirements/trl.txt)
	$(call project,.venv-trl)
	@touch $@

.venv-proto/.stamp: requirements/proto.txt | .venv-uv/.stamp
	$(call environment,.venv-proto,requirements/proto.txt)
	@touch $@
