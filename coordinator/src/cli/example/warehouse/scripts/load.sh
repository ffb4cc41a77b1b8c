#!/usr/bin/env bash
# Loads one file into a table, in one transaction that replaces the chunk's key range: run twice, or
# killed and run again, it leaves the same rows. Nothing is committed that is not complete.
set -euo pipefail

export PGHOST=$ODF_CONN_DWH_HOST PGPORT=$ODF_CONN_DWH_PORT PGDATABASE=$ODF_CONN_DWH_DATABASE
export PGUSER=$ODF_CONN_DWH_USER PGPASSWORD=${ODF_CONN_DWH_PASSWORD:-}
export PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"

# psql reads its commands from descriptor 3 and the rows from standard input.
loaded=$(psql -X -q -v ON_ERROR_STOP=1 -v expected="$ODF_INPUT_ROWS" -f /dev/fd/3 3<<SQL <"$ODF_INPUT"
begin;
delete from $ODF_OUTPUT_TABLE where $ODF_PREDICATE;
\\copy $ODF_OUTPUT_TABLE from pstdin (format csv, header)
\\set loaded :ROW_COUNT
select :loaded = :expected as complete \\gset
\\if :complete
  commit;
  \\echo :loaded
\\else
  \\warn :loaded rows are in the file and :expected were published
\\endif
SQL
)
if [[ -z $loaded ]]; then
  echo "nothing was committed: $ODF_INPUT is not what was published" >&2
  exit 65 # bad data: a retry would not help
fi

printf '{"rows": %s}\n' "$loaded" >"$ODF_RESULT"
echo "loaded $loaded rows where $ODF_PREDICATE"
