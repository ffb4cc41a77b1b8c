#!/usr/bin/env bash
# Builds everything and runs all tests against the one installed PostgreSQL.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/ensure-postgres.sh >/dev/null
# The tests of real processes run the programs that this makes.
cargo build --locked --workspace
cargo test --locked --workspace --no-fail-fast "$@"
