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
	@$(BIN)/python -m pip install --quiet --group dev --editable \
		'.[dev,embedded,envoy,nkeys,opentelemetry,prometheus,pydantic,sentry,testing]'
	@touch $@

build/gen/ready: .venv/ready $(wildcard protos/demo/v1/*.proto)
	@mkdir -p build/gen
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=build/gen --pyi_out=build/gen protos/demo/v1/*.proto
	@touch $@

setup: build/gen/ready ## Set up .venv and the generated modules

demo: setup ## See it work: NATS, two workers, the gateway, five calls (KEEP=1: keep serving)
	@$(BIN)/natsgate demo $(if $(KEEP),--keep)

test: setup ## Run the tests; they start real nats-servers (JOBS=2: two at a time)
	$(BIN)/python -m pytest $(if $(JOBS),-n $(JOBS) --dist loadfile) $(TESTS)

lint: setup ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## Measure against others, side by side (QUICK=1: in a minute; FULL=1: everything; DOCS=1: write it down)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(FULL),--full) $(if $(DOCS),--docs) $(BENCH)

clients: setup .tools/grpcurl .tools/nats client-node client-go client-java client-rust ## Call the gateway with clients of other languages
	@$(BIN)/python -m pip install --quiet --group clients
	GRPCURL=$(CURDIR)/.tools/grpcurl NATS_CLI=$(CURDIR)/.tools/nats $(BIN)/python -m pytest -m clients tests/clients

.tools/grpcurl:
	GOBIN=$(CURDIR)/.tools go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

.tools/nats:
	GOBIN=$(CURDIR)/.tools go install github.com/nats-io/natscli/nats@v0.5.1

INTEROP := .tools/interop

.PHONY: interop
interop: setup $(INTEROP)/client $(INTEROP)/java/ready ## Run the interop cases of gRPC through the gateway
	$(BIN)/python -m pytest -m interop tests/interop

$(INTEROP)/client:
	GOBIN=$(CURDIR)/$(INTEROP) go install google.golang.org/grpc/interop/client@v1.85.0

$(INTEROP)/java/ready: tests/interop/pom.xml
	rm -rf $(INTEROP)/java
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(INTEROP)/java
	@touch $@

.PHONY: envoy
envoy: setup ## Run the tests over the edge inside Envoy
	$(BIN)/python -m pytest -m 'envoy and not (clients or interop or load or mesh)' $(TESTS)

.PHONY: load
load: setup ## 20,000 calls that wait, over each edge
	$(BIN)/python -m pytest -m load tests/load

.PHONY: browser
browser: setup client-web ## Call the gateway from a page in Chromium
	@$(BIN)/python -m pip install --quiet --group browser
	$(BIN)/python -m pytest -m browser tests/browser

.PHONY: mesh
mesh: setup ## Restart and kill gateways and workers behind Envoy, under load
	@$(BIN)/python -m pip install --quiet --group mesh
	$(BIN)/python -m pytest -m mesh tests/mesh

SECONDS ?= 600

.PHONY: fuzz corpus
fuzz: setup ## Fuzz the codec and the edges' parsers for SECONDS each, with each of two tools
	@$(BIN)/python -m pip install --quiet --group fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz $(SECONDS)

corpus: setup ## Keep what `make fuzz` found that reaches something new
	PYTHONPATH=tests $(BIN)/python -m fuzz keep

WORDS := protos/demo/v1/words.proto
NODE_CLIENT := examples/clients/node
GO_CLIENT := examples/clients/go
JAVA_CLIENT := examples/clients/java
RUST_CLIENT := examples/clients/rust
WEB_CLIENT := examples/clients/web

.PHONY: client-node client-go client-java client-rust client-web
client-node: $(NODE_CLIENT)/node_modules/ready
client-go: $(GO_CLIENT)/words-client
client-java: $(JAVA_CLIENT)/target/words-client.jar
client-rust: $(RUST_CLIENT)/target/debug/words-client
client-web: $(WEB_CLIENT)/build/page.js

$(NODE_CLIENT)/node_modules/ready: $(addprefix $(NODE_CLIENT)/,package.json package-lock.json)
	cd $(NODE_CLIENT) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

GO_PACKAGE := module=example.com/words-client,Mdemo/v1/words.proto=example.com/words-client/words

$(GO_CLIENT)/words/words.pb.go: .venv/ready $(WORDS) $(addprefix $(GO_CLIENT)/,go.mod go.sum)
	cd $(GO_CLIENT) && GOBIN=$(CURDIR)/.tools go install tool
	PATH="$(CURDIR)/.tools:$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos \
		--go_out=$(GO_CLIENT) --go_opt=$(GO_PACKAGE) --go-grpc_out=$(GO_CLIENT) --go-grpc_opt=$(GO_PACKAGE) $(WORDS)

$(GO_CLIENT)/words-client: $(GO_CLIENT)/words/words.pb.go $(GO_CLIENT)/main.go
	cd $(GO_CLIENT) && go build -buildvcs=false -o words-client .
	@touch $@

$(JAVA_CLIENT)/target/words-client.jar: $(WORDS) $(addprefix $(JAVA_CLIENT)/,pom.xml src/main/java/Client.java)
	cd $(JAVA_CLIENT) && mvn --quiet --batch-mode package
	@touch $@

$(RUST_CLIENT)/target/debug/words-client: $(WORDS) $(addprefix $(RUST_CLIENT)/,Cargo.toml Cargo.lock build.rs src/main.rs)
	cd $(RUST_CLIENT) && cargo build --locked
	@touch $@

$(WEB_CLIENT)/node_modules/ready: $(addprefix $(WEB_CLIENT)/,package.json package-lock.json)
	cd $(WEB_CLIENT) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

$(WEB_CLIENT)/build/page.js: .venv/ready $(WORDS) $(addprefix $(WEB_CLIENT)/,page.js node_modules/ready)
	@mkdir -p $(WEB_CLIENT)/build/gen
	$(BIN)/python -m grpc_tools.protoc -Iprotos -I$$($(BIN)/python -c 'import google.rpc as rpc; print(rpc.__path__[0][:-11])') \
		--plugin=protoc-gen-es=$(WEB_CLIENT)/node_modules/.bin/protoc-gen-es --es_opt=target=js \
		--es_out=$(WEB_CLIENT)/build/gen $(WORDS) google/rpc/error_details.proto
	cd $(WEB_CLIENT) && node_modules/.bin/esbuild page.js --bundle --format=esm --outfile=build/page.js

clean: ## Remove all that was made here
	rm -rf .venv build dist .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf $(NODE_CLIENT)/node_modules $(GO_CLIENT)/words $(GO_CLIENT)/words-client $(JAVA_CLIENT)/target $(RUST_CLIENT)/target
	rm -rf $(WEB_CLIENT)/node_modules $(WEB_CLIENT)/build
