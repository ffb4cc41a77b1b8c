#!/usr/bin/env bash
# Writes one key range of a table to a file. It may be killed at any moment and run again: what is
# in the staging file is published only after exit 0.
set -euo pipefail

# By variables, never by arguments: those stand in the process list for everybody to read.
export PGHOST=$ODF_CONN_ERP_HOST PGPORT=$ODF_CONN_ERP_PORT PGDATABASE=$ODF_CONN_ERP_DATABASE
export PGUSER=$ODF_CONN_ERP_USER PGPASSWORD=${ODF_CONN_ERP_PASSWORD:-}
export PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"

copied=$(psql -X -v ON_ERROR_STOP=1 -v staging="$ODF_STAGING" <<SQL
copy (select * from $ODF_INPUT_TABLE where $ODF_PREDICATE) to stdout (format csv, header) \\g :staging
SQL
)

printf '{"rows": %s}\n' "${copied#COPY }" >"$ODF_RESULT"
echo "extracted ${copied#COPY } rows where $ODF_PREDICATE"
