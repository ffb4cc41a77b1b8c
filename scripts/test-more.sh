#!/usr/bin/env bash
# Integration tests and a small demo against a real server on each major from 15 to 18: all of them on
# the newest, elsewhere what depends on the server and longer random walks ('make test' runs everything
# on the installed one). Majors that are not installed are unpacked below target/pg.
#   scripts/test-more.sh          all majors
#   scripts/test-more.sh 17 18    these
#   ALL=1 scripts/test-more.sh    everything on all of them
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

# What depends on the server most: the protocol, installing, splitting.
subjects=(smoke:: register:: claim:: settle:: reconcile:: sweep:: limits:: allot:: floor:: plan:: requests:: roles::
  transitions:: cut_after_commit:: clock:: coordinator_init:: model:: plans_of_functions:: lineage:: replan::)
newest=18

for major in "${majors[@]}"; do
  bin=$(bin_of "$major")
  echo "== PostgreSQL $major ($bin)"
  started=$SECONDS
  if [[ $major == "$newest" && $bin != "$installed" || -n ${ALL:-} ]]; then
    ODF_PG_BIN=$bin cargo test --locked --quiet --test it
  else
    ODF_PG_BIN=$bin ODF_STEPS=1000 cargo test --locked --quiet --test it -- "${subjects[@]}"
  fi
  tests=$SECONDS
  CHUNKS=200 SF=0.01 ODF_PG_BIN=$bin "${CARGO_TARGET_DIR:-target}/debug/examples/demo"
  echo "== PostgreSQL $major: tests $((tests - started)) s, demo $((SECONDS - tests)) s"
done
