# The one command. `make demo` and `make test` set everything up by themselves, in .venv.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: help setup demo test lint bench clients clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml
	@echo 'setting up .venv (a minute, once)'
	@command -v $(PYTHON) >/dev/null || { echo 'natsgate needs Python 3.11 or newer: make PYTHON=/path/to/python3'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[embedded,nkeys,pydantic]' --group dev
	@touch $@

build/gen/ready: .venv/ready $(wildcard protos/demo/v1/*.proto)
	@mkdir -p build/gen
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=build/gen --pyi_out=build/gen protos/demo/v1/*.proto
	@touch $@

setup: build/gen/ready ## Set up .venv and the generated modules

demo: setup ## See it work: NATS, two workers, the gateway, four calls (KEEP=1: keep serving)
	@$(BIN)/natsgate demo $(if $(KEEP),--keep)

test: setup ## Run the tests; they start real nats-servers
	$(BIN)/python -m pytest $(TESTS)

lint: setup ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## Measure against others, side by side (QUICK=1: in a minute)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

clients: setup .tools/grpcurl ## Call the gateway with clients of other languages
	GRPCURL=$(CURDIR)/.tools/grpcurl $(BIN)/python -m pytest -m clients tests

.tools/grpcurl:
	GOBIN=$(CURDIR)/.tools go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

clean: ## Remove all that was made here
	rm -rf .venv build dist .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis
