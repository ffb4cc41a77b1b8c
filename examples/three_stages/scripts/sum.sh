#!/usr/bin/env bash
# One row a status, from all chunks.
set -euo pipefail
export PGHOST=$ODF_CONN_DWH_HOST PGPORT=$ODF_CONN_DWH_PORT PGDATABASE=$ODF_CONN_DWH_DATABASE
export PGUSER=$ODF_CONN_DWH_USER PGPASSWORD=${ODF_CONN_DWH_PASSWORD:-} PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"
psql -X -q -v ON_ERROR_STOP=1 <<SQL
begin;
delete from $ODF_OUTPUT_TABLE;
insert into $ODF_OUTPUT_TABLE select status, count(*), sum(amount) from public.orders_clean group by status;
commit;
SQL
