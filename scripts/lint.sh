#!/usr/bin/env bash
# Formatting, lints and documentation; shell scripts too where shellcheck is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
if command -v shellcheck >/dev/null; then
  shellcheck scripts/*.sh examples/demo/scripts/*.sh .ci/run
else
  echo "shellcheck is not installed: shell scripts were only parsed"
  for script in scripts/*.sh examples/demo/scripts/*.sh .ci/run; do bash -n "$script"; done
fi
