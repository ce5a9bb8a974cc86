# Everything a person does here, by one word. Nothing outside this folder is changed, except that
# system packages are installed where you agree (YES=1, CI=true, or asked on a terminal).
PYTHON ?= python3
PY := .venv/bin/python
# Most tests wait for processes they started, so there are more workers than cores.
JOBS ?= 4
DATA_DIR ?= .opsconductor
TOOLS_BIN := $(shell deploy/setup/go_tools --where)
PYTEST := PATH="$(TOOLS_BIN):$$PATH" $(PY) -m pytest
# What takes long, measures, or reaches out is not a part of `make test`, but has its own target.
APART := bench chaos faults live simulation tools_live
PERMITTED := $(filter true 1,$(CI) $(YES))

PROTO_OUT := clients/python
PROTO_ENV := .venv-protos
PROTO_FRESH := .cache/protos
PROTOC = PATH="$(CURDIR)/$(PROTO_ENV)/bin:$$PATH" $(PROTO_ENV)/bin/python -m grpc_tools.protoc -I protos
# Where a release exists its contract is the promise; before that, whatever main had last.
PROTO_BEFORE = $$(git describe --tags --match 'v*' --abbrev=0 2>/dev/null || git rev-parse -q --verify HEAD~1)

export PYTHON YES CI
# Programs that are started hundreds of times need not compile themselves each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help
help:  ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup setup-dev setup-bench
setup:  ## make .venv with opsctl in it (once; needs only Python 3.11 or newer)
	@sh deploy/setup/setup runtime
setup-dev:
	@sh deploy/setup/setup dev
setup-bench:
	@sh deploy/setup/setup bench

.PHONY: demo
demo: setup  ## see the main job done for real (YES=1: asks nothing)
	@$(PY) deploy/setup/system_packages.py demo
	@$(PY) deploy/demo/main.py $(ARGS)

.PHONY: up down
up: setup  ## start an orchestrator and a local agent (DATA_DIR=.opsconductor)
	@.venv/bin/opsctl up --data-dir "$(DATA_DIR)" --detach
down: setup  ## stop them
	@.venv/bin/opsctl down --data-dir "$(DATA_DIR)"

.PHONY: test
test: setup-dev  ## prove it (ARGS="-k name" for a part, JOBS=1 for one at a time)
	@$(PY) deploy/setup/system_packages.py test
	@if [ -n "$(PERMITTED)" ]; then deploy/setup/go_tools grpcurl; fi
	$(PYTEST) -q -n $(JOBS) --dist worksteal $(or $(TESTS),$(APART:%=--ignore=tests/%) tests) $(ARGS)

.PHONY: faults
faults: setup-dev  ## kill, freeze and cut off every process at every named point; needs a few minutes
	@$(PY) deploy/setup/system_packages.py test
	$(PYTEST) -q -n $(JOBS) --dist worksteal --timeout=300 tests/faults tests/simulation $(ARGS)

.PHONY: check format-check lint types imports house
check: format-check lint types imports protos-check house  ## everything that is checked without running the product
format-check: setup-dev
	$(PY) -m ruff format --check .
lint: setup-dev
	$(PY) -m ruff check .
types: setup-dev
	$(PY) -m mypy
imports: setup-dev
	.venv/bin/lint-imports
house: setup-dev
	$(PYTEST) -q tests/architecture

.PHONY: format
docs: setup-dev  ## write the state diagrams and the table of tools again
	$(PY) deploy/docs/diagrams.py
	$(PY) deploy/docs/tool_table.py

format: setup-dev  ## let ruff write the layout
	$(PY) -m ruff check --fix --exit-zero .
	$(PY) -m ruff format .

# The generator is older than everything else on purpose, so it has an environment of its own.
$(PROTO_ENV)/.done: protos/codegen-requirements.txt | setup-dev
	$(PY) -m venv --clear --without-pip $(PROTO_ENV)
	$(PY) -m pip -q --python $(PROTO_ENV)/bin/python install -r $<
	touch $@

define generate
	$(PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) protos/opsconductor/v1/*.proto
	$(PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) \
	    $$(grep -lE '^service ' protos/opsconductor/v1/*.proto)
endef

.PHONY: protos
protos: $(PROTO_ENV)/.done  ## write the code generated from protos/
	find $(PROTO_OUT)/opsconductor/v1 -name '*_pb2*' -delete
	$(call generate,$(PROTO_OUT))

.PHONY: protos-check
protos-check: $(PROTO_ENV)/.done  ## fail where generated code, comments or compatibility are off
	rm -rf $(PROTO_FRESH) && mkdir -p $(PROTO_FRESH)
	$(call generate,$(PROTO_FRESH))
	diff -r -x __init__.py -x py.typed -x __pycache__ $(PROTO_FRESH)/opsconductor/v1 $(PROTO_OUT)/opsconductor/v1
	cd protos && ../.venv/bin/buf lint
	@before=$(PROTO_BEFORE); \
	if [ -z "$$before" ] || [ -z "$$(git ls-tree $$before protos)" ]; then echo "no earlier contract to compare with"; \
	else echo "buf breaking against $$before"; cd protos && ../.venv/bin/buf breaking --against "../.git#ref=$$before,subdir=protos"; fi

.PHONY: lock
lock: setup-dev  ## write deploy/requirements again (UPGRADE=1: with the newest versions)
	$(PY) deploy/setup/lock.py $(if $(UPGRADE),--upgrade)

.PHONY: bench
bench: $(if $(SHORT),setup-dev,setup-bench)  ## measure, beside other engines (SHORT=1: only that it works)
	$(PY) tests/bench/main.py $(if $(SHORT),--short) $(ARGS)

.PHONY: simulate
simulate: setup-dev  ## run the product's programs in a simulated world that fails all the time (SEED=n EVENTS=n)
	PYTHONPATH=tests $(PY) -m simulation.main $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) $(ARGS)

# Without COUNT: kill -9 at every named point and 100 random injections, as every change has to
# pass. With COUNT, as at night: every action at every point, and so many injections. The baseline
# needs the other engines, which `make bench` installs.
comma := ,
CHAOS_SIZE = $(if $(COUNT),--count $(COUNT) --failpoints kill9$(comma)stop$(comma)raise)
.PHONY: chaos mutants
chaos: $(if $(BASELINE),setup-bench,setup-dev)  ## break everything while plans run, then check (SEED=n COUNT=n BASELINE=1)
	@$(PY) deploy/setup/system_packages.py test
	$(PY) tests/chaos/main.py $(if $(BASELINE),baseline,$(CHAOS_SIZE)) $(if $(SEED),--seed $(SEED)) $(ARGS)
mutants: setup-dev  ## plant 14 mistakes, one at a time; what `make chaos` checks must notice each
	$(PY) tests/chaos/main.py mutants $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: live
live: setup-dev  ## test against a real Jaeger, built with Go
	@deploy/setup/go_tools jaeger
	$(PYTEST) -q tests/live $(ARGS)

.PHONY: tools-live
tools-live: setup-dev  ## use every tool that can be used here on a real counterpart (as root: on a booted Debian too)
	@$(PY) deploy/setup/system_packages.py tools-live
	@if [ -n "$(PERMITTED)" ] && command -v go >/dev/null; then deploy/setup/go_tools jaeger docker-compose; fi
	$(PYTEST) -q -n $(JOBS) --dist worksteal tests/tools_live $(ARGS)

.PHONY: clean
clean:  ## remove environments, caches and builds (the data of `make up` stays)
	rm -rf .venv $(PROTO_ENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
