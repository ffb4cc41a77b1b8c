# Everything a person types. Each target is one line or one script.
.PHONY: help build demo demo-stop clean-demo test test-more lint

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make demo takes SF=0.05 CHUNKS=1000 WORKERS=2 SLOTS=6 FAIL_PERCENT=1 KEEP=1"

build: ## build coordinator and worker
	cargo build --workspace --locked

demo: ## move a table in 1,000 chunks through real daemons, with failures, and prove it
	@scripts/demo.sh

demo-stop: ## end what 'make demo KEEP=1' left up
	@scripts/demo.sh stop

clean-demo: demo-stop ## the same, and remove what the demo wrote
	rm -rf target/demo

test: ## build, then all tests on the one installed PostgreSQL
	@scripts/test.sh

test-more: ## the integration tests and a demo on PostgreSQL 15 to 18, longer random walks
	@scripts/test-more.sh

lint: ## formatting, lints, documentation
	@scripts/lint.sh
