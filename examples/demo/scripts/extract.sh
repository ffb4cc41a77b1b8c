#!/usr/bin/env bash
# Writes one chunk of the source table to the staging file as CSV and reports its rows.
#
# Everything it needs comes by environment (see `worker try`); it never learns where the file will
# be published. It may be killed at any moment and run again: nothing is visible before exit 0.
set -euo pipefail
export LC_ALL=C

# For the demo's judge: who runs when, one appended line per start and end.
witness() {
  printf '%s %s extract %s %s %s %s %s\n' \
    "$EPOCHREALTIME" "$1" "$ODF_CHUNK" "$ODF_ATTEMPT" "$ODF_FENCE" "$DEMO_WORKER" "$2" >>"$DEMO_WITNESS"
}
trap 'witness end $?' EXIT
witness start 0

# By variables, never by arguments: those stand in the process list for everybody to read.
export PGHOST=$ODF_CONN_SOURCE_HOST PGPORT=$ODF_CONN_SOURCE_PORT PGDATABASE=$ODF_CONN_SOURCE_DATABASE
export PGUSER=$ODF_CONN_SOURCE_USER PGPASSWORD=$ODF_CONN_SOURCE_PASSWORD
export PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"

copied=$(psql -X -v ON_ERROR_STOP=1 -v staging="$ODF_STAGING" <<SQL
copy (
  select * from $ODF_INPUT_TABLE where $ODF_PREDICATE order by l_orderkey, l_linenumber
) to stdout (format csv, header) \\g :staging
SQL
)
rows=${copied#COPY }

# About DEMO_FAIL_PERCENT of the attempts fail here, the same ones in every run: with half of a file.
if (((ODF_ORDINAL * 2654435761 + ODF_ATTEMPT * 6163) % 9973 < DEMO_FAIL_PERCENT * 9973 / 100)); then
  witness purpose 0
  truncate -s "$(($(wc -c <"$ODF_STAGING") / 2))" "$ODF_STAGING"
  echo "failing on purpose: the source went away in the middle of the file" >&2
  exit 75
fi

printf '{"rows": %s}\n' "$rows" >"$ODF_RESULT"
echo "extracted $rows rows where $ODF_PREDICATE"
