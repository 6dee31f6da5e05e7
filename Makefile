# Weir. `make help` lists what there is; `make demo` and `make test` need nothing
# but Go, make and git.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export CGO_ENABLED ?= 0

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
# The commit's date, so that a commit gives the same binaries wherever it is built.
DATE     ?= $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)

WEIR_PKG := github.com/weir-logs/weir/services/weir
LDFLAGS  := -s -w -X $(WEIR_PKG).version=$(VERSION) -X $(WEIR_PKG).revision=$(REVISION) \
            -X $(WEIR_PKG).branch=$(BRANCH) -X $(WEIR_PKG).date=$(DATE) \
            -X main.version=$(VERSION)
GOBUILD  := go build -trimpath -ldflags '$(LDFLAGS)'

TOOLS    := .cache/tools
S3       := .cache/versitygw
FUZZTIME ?= 1m
DURATION ?= 10m
DATA_DIR ?= data/run
TEST_FLAGS ?=
# Instead of all packages.
TEST_PACKAGES ?=
# Of a package: on a busy machine the race detector's take some minutes.
TEST_TIMEOUT ?= 25m
BENCH    ?= .
BENCH_COUNT ?= 3
BENCH_PACKAGES ?= work

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Building

.PHONY: build
build: ## Build bin/weir, bin/weir-agent and bin/weirctl, static.
	@mkdir -p bin
	@echo "building bin/weir, bin/weirctl, bin/weir-agent $(VERSION)"
	@$(GOBUILD) -o bin/ ./services/cmd/weir ./services/cmd/weirctl ./services/agent/cmd/weir-agent

.PHONY: generate
generate: $(TOOLS)/.built ## Generate gen/ from proto/, and docs/config.md from the configuration.
	$(TOOLS)/buf generate
	$(TOOLS)/buf generate --template proto/buf.gen.rest.yaml
	go test ./services/weir -run '^TestReference$$' -count=1 -update

# The generators and linters of tools/go.mod: some minutes the first time.
$(TOOLS)/.built: tools/go.mod tools/go.sum
	@echo "building the tools of tools/go.mod"
	@mkdir -p $(TOOLS)
	cd tools && GOWORK=off GOFLAGS= GOBIN=$(CURDIR)/$(TOOLS) go install tool
	@touch $@

## Testing

.PHONY: test
test: build ## Run all tests.
	go test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $(or $(TEST_PACKAGES),work)

.PHONY: race
race: ## Run the tests with the race detector (needs a C compiler), but those of whole programs; WEIR_RACE_FULL=1 repeats as often as test does.
	WEIR_FEWER=$(if $(WEIR_RACE_FULL),,1) RAPID_CHECKS=$(if $(WEIR_RACE_FULL),100,25) CGO_ENABLED=1 go test -race -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $(or $(TEST_PACKAGES),./gen/... ./libs/... ./libs/client/... ./services/... ./services/agent/...)

.PHONY: lint
lint: $(TOOLS)/.built ## Check format, vet, staticcheck, protos.
	tools/lint.sh

.PHONY: check
check: lint check-generated test ## What CI insists on, as far as it is quick.

.PHONY: check-generated
check-generated: generate ## Prove that the committed generated code is fresh.
	@tools/fresh.sh gen docs/config.md

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (1m).
	tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: $(TOOLS)/.built ## Run the Go benchmarks (BENCH=regexp BENCH_COUNT=3 BENCH_PACKAGES=work); print medians.
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 0 $(TEST_FLAGS) $(BENCH_PACKAGES) | tee .cache/bench.txt
	$(TOOLS)/benchstat .cache/bench.txt

.PHONY: chaos
chaos: build ## Do random harm to a cluster under load for DURATION (10m); print what was checked and lost.
	WEIR=$(CURDIR)/bin/weir WEIR_CHAOS=$(DURATION) go test ./tests/cluster -run '^TestChaos$$' -v -count=1 -timeout 0

.PHONY: bench-replication
bench-replication: build ## Measure what replication costs (WEIR_BENCH_REPLICATION=5 rounds, WEIR_BENCH_MB, WEIR_BENCH_LOGS); print a table.
	WEIR=$(CURDIR)/bin/weir WEIR_BENCH_REPLICATION=$${WEIR_BENCH_REPLICATION:-5} go test ./tests/bench -run '^TestReplication$$' -v -count=1 -timeout 0

.PHONY: conformance
conformance: build ## Compare the Loki API with recorded answers of Loki; print a table.
	tools/conformance.sh

.PHONY: conformance-cluster
conformance-cluster: build ## The same with three ingesters that have copies of all entries.
	tools/conformance.sh --cluster

## Running

.PHONY: run
run: build ## Run all services in one process, with data in DATA_DIR (data/run).
	exec bin/weir --target=all --data-dir=$(DATA_DIR)

.PHONY: demo
demo: build ## Run Weir, a shop that logs, and an agent that follows its files.
	@exec tools/demo.sh

.PHONY: images
images: build $(S3)/versitygw ## Build the container images, from static binaries alone.
	deploy/docker/build.sh

# The S3 server of the containers, from a module of its own: two minutes the first time.
$(S3)/versitygw: deploy/versitygw/go.mod deploy/versitygw/go.sum
	@echo "building versitygw"
	@mkdir -p $(S3)
	cd deploy/versitygw && GOWORK=off GOFLAGS= GOBIN=$(CURDIR)/$(S3) go install -trimpath -ldflags '-s -w' tool
	@touch $@

.PHONY: up
up: images ## Start a cluster in containers (LAYOUT=cluster, one-node or three-node).
	deploy/compose/compose.sh up

.PHONY: down
down: ## Stop that cluster and remove its data.
	deploy/compose/compose.sh down

.PHONY: smoke
smoke: images ## Prove with the cluster in containers that losing an ingester loses nothing.
	deploy/compose/smoke.sh

.PHONY: clean
clean: ## Remove what was built (not data/).
	rm -rf bin .cache
