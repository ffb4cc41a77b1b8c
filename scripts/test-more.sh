#!/usr/bin/env bash
# The tests that depend on the server, the long runs among them, and a small demo, against a real
# server on each major from 15 to 18. Majors that are not installed are unpacked below target/pg.
#   scripts/test-more.sh          all majors
#   scripts/test-more.sh 17 18    these
set -euo pipefail
cd "$(dirname "$0")/.."

majors=("$@")
((${#majors[@]})) || majors=(15 16 17 18)

installed=$(scripts/ensure-postgres.sh)
cargo build --locked --workspace --bins --example demo
cargo test --locked --workspace --no-run

# The folder of a server of that major, installed or unpacked.
bin_of() {
  local version
  version=$("$installed/postgres" --version)
  if [[ $version =~ \)\ $1([^0-9]|$) ]]; then
    printf '%s\n' "$installed"
  elif [[ -x /usr/lib/postgresql/$1/bin/postgres ]]; then
    printf '%s\n' "/usr/lib/postgresql/$1/bin"
  else
    scripts/fetch-postgres.sh "$1"
  fi
}

# What can depend on the server's major: the protocol, installing, splitting, and a demo. Plans of
# functions are asserted by 'make test' alone, on the major that they were measured on.
subjects=(smoke:: register:: claim:: settle:: reconcile:: sweep:: limits:: floor:: plan:: requests:: roles::
  transitions:: cut_after_commit:: clock:: coordinator_init::)

for major in "${majors[@]}"; do
  bin=$(bin_of "$major")
  echo "== PostgreSQL $major ($bin)"
  started=$SECONDS
  ODF_PG_BIN=$bin ODF_TEST_LONG=1 cargo test --locked --quiet --test it -- "${subjects[@]}"
  CHUNKS=200 SF=0.01 ODF_PG_BIN=$bin "${CARGO_TARGET_DIR:-target}/debug/examples/demo"
  echo "== PostgreSQL $major: $((SECONDS - started)) s"
done
