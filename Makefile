# Every target is one line into a tool of this repository or of Rust. `make help` lists them.
.DEFAULT_GOAL := help

# Always the whole workspace: cargo unifies features over what it is asked to build, and every other selection would
# build kube anew.
E2E := cargo build --workspace && "$${CARGO_TARGET_DIR:-target}/debug/e2e"
TEST := cargo test --workspace
# Where `make tools` puts it; not everywhere.
OLDEST_NGINX := "$${XDG_CACHE_HOME:-$$HOME/.cache}/stomaton/nginx-1.22.1/nginx"

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Watch a route move, break, come back by itself, and arrive (starts a cluster if there is none)
	$(E2E) demo

test: lint test-unit test-api test-edge-oldest test-e2e ## Everything that has to be true before a change lands

lint: ## Format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

lint-nginx: tools ## What NGINX, crossplane and gixy say of all that is rendered (a part of test-api)
	$(TEST) --test edge lint

fuzz: ## The checks of names, the encoder and the lexer against strings nobody thought of (some minutes)
	PROPTEST_CASES=1000000 $(TEST) --lib fuzz

test-unit: ## Unit and property tests: need nothing
	$(TEST) --lib --bins --test command --test generated --test model --test rules

test-api: tools ## Controllers against a real API server; the edge against a real NGINX
	$(TEST) --test api --test edge --test 'cluster_api' --test 'cluster_kind' --test 'load_*'

test-edge-oldest: tools ## The edge against the oldest NGINX that it supports, where this machine's packages have it
	! test -x $(OLDEST_NGINX) || STOMATON_NGINX=$(OLDEST_NGINX) $(TEST) --test edge

test-e2e: ## Real pods, real NGINX, real traffic, on a node (root, or a cluster of yours in STOMATON_CONTEXT)
	$(E2E) cluster up
	$(E2E) cluster load-image --all
	$(TEST) --test scenarios -- --ignored --skip matrix::

test-matrix: ## The rest of what may happen to a plan: order, every phase, a real Prometheus (as test-e2e; 10 minutes)
	$(E2E) cluster up
	$(E2E) cluster load-image --all
	$(TEST) --test scenarios -- --ignored matrix::

test-cluster: ## That the local cluster starts, survives kills and leaves nothing behind
	$(TEST) --test cluster_local -- --ignored --test-threads=1

bench-operator: ## What 500 services cost the operator: target/reports/bench-operator.json (5 minutes)
	cargo bench --workspace --profile dev --bench operator

bench-edge: ## What the edge costs and loses: target/reports/bench-edge.json (needs root or a cluster; 40 minutes)
	cargo build --workspace
	cargo bench --workspace --profile dev --bench edge

bench-plan: ## What the migration engine does, and how fast: target/reports/bench-plan.json (an hour; root or a cluster)
	cargo build --workspace
	cargo bench --workspace --profile dev --bench plan

test-model: ## The migration machine in ten million states and more (some minutes, some gigabytes)
	$(TEST) --test model -- --ignored --nocapture for_long

test-crash: tools ## That a crash of the operator at any single write leaves no trace (some minutes)
	$(TEST) --test api -- --ignored --nocapture crash

crds: ## Write manifests/crds from the types
	cargo build --workspace && "$${CARGO_TARGET_DIR:-target}/debug/crdgen" manifests/crds

diagram: ## Draw the states of a route in docs/migration.md, from the machine
	STOMATON_WRITE=1 $(TEST) --lib diagram

tools: ## Build or fetch what tests need beside Rust: Kubernetes (Go modules), NGINX (PyPI, Debian), its checkers (PyPI)
	$(E2E) tools

cluster-up: ## Start the local cluster
	$(E2E) cluster up

cluster-down: ## Stop the local cluster and leave nothing of it
	$(E2E) cluster down

.PHONY: help demo test lint lint-nginx fuzz test-unit test-api test-edge-oldest test-e2e test-matrix test-cluster test-model test-crash bench-edge bench-operator bench-plan crds diagram tools cluster-up cluster-down
