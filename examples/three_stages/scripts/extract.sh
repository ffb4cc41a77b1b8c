#!/usr/bin/env bash
# One key range of the shop's orders, as csv.
set -euo pipefail
export PGHOST=$ODF_CONN_SHOP_HOST PGPORT=$ODF_CONN_SHOP_PORT PGDATABASE=$ODF_CONN_SHOP_DATABASE
export PGUSER=$ODF_CONN_SHOP_USER PGPASSWORD=${ODF_CONN_SHOP_PASSWORD:-} PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"
copied=$(psql -X -v ON_ERROR_STOP=1 -v staging="$ODF_STAGING" <<SQL
copy (select order_id, status, amount from $ODF_INPUT_TABLE where $ODF_PREDICATE) to stdout (format csv, header) \\g :staging
SQL
)
printf '{"rows": %s}\n' "${copied#COPY }" >"$ODF_RESULT"
