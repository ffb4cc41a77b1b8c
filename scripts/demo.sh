#!/usr/bin/env bash
# `make demo` and `make demo-stop`: PostgreSQL, a build, then examples/demo.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-run} == run ]]; then
  scripts/ensure-postgres.sh >/dev/null
fi
cargo build --locked --workspace --bins --example demo
exec "${CARGO_TARGET_DIR:-target}/debug/examples/demo" "$@"
