#!/usr/bin/env bash
# The chunk's key range is replaced in one transaction: run twice, or killed and run again, it is the same.
set -euo pipefail
export PGHOST=$ODF_CONN_DWH_HOST PGPORT=$ODF_CONN_DWH_PORT PGDATABASE=$ODF_CONN_DWH_DATABASE
export PGUSER=$ODF_CONN_DWH_USER PGPASSWORD=${ODF_CONN_DWH_PASSWORD:-} PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"
# psql reads its commands from descriptor 3 and the rows from standard input.
loaded=$(zcat "$ODF_INPUT" | psql -X -q -v ON_ERROR_STOP=1 -f /dev/fd/3 3<<SQL
begin;
delete from $ODF_OUTPUT_TABLE where $ODF_PREDICATE;
\\copy $ODF_OUTPUT_TABLE from pstdin (format csv, header)
\\echo :ROW_COUNT
commit;
SQL
)
printf '{"rows": %s}\n' "$loaded" >"$ODF_RESULT"
