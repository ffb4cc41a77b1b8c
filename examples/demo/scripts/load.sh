#!/usr/bin/env bash
# Loads one published file into the target table, in one transaction that replaces the chunk's
# range of keys: run twice, or killed and run again, it leaves the same rows.
set -euo pipefail
export LC_ALL=C

# For the demo's judge: who runs when, one appended line per start and end.
witness() {
  printf '%s %s load %s %s %s %s %s\n' \
    "$EPOCHREALTIME" "$1" "$ODF_CHUNK" "$ODF_ATTEMPT" "$ODF_FENCE" "$DEMO_WORKER" "$2" >>"$DEMO_WITNESS"
}
trap 'witness end $?' EXIT
witness start 0

# By variables, never by arguments: those stand in the process list for everybody to read.
export PGHOST=$ODF_CONN_TARGET_HOST PGPORT=$ODF_CONN_TARGET_PORT PGDATABASE=$ODF_CONN_TARGET_DATABASE
export PGUSER=$ODF_CONN_TARGET_USER PGPASSWORD=$ODF_CONN_TARGET_PASSWORD
export PGAPPNAME="$ODF_CHUNK_NAME $ODF_FENCE"

# About DEMO_FAIL_PERCENT of the attempts fail, the same ones in every run: just before the commit.
trouble=
if (((ODF_ORDINAL * 2246822519 + ODF_ATTEMPT * 6160) % 9967 < DEMO_FAIL_PERCENT * 9967 / 100)); then
  witness purpose 0
  trouble="do 'begin raise exception ''failing on purpose: the target went away before the commit''; end';"
fi

# psql reads its commands from descriptor 3 and the rows from standard input.
loaded=$(psql -X -q -v ON_ERROR_STOP=1 -v expected="$ODF_INPUT_ROWS" -f /dev/fd/3 3<<SQL <"$ODF_INPUT"
begin;
delete from $ODF_OUTPUT_TABLE where $ODF_PREDICATE;
\\copy $ODF_OUTPUT_TABLE from pstdin (format csv, header)
\\set loaded :ROW_COUNT
$trouble
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
  echo "nothing was committed: $ODF_INPUT is not what the extract published" >&2
  exit 65
fi

printf '{"rows": %s}\n' "$loaded" >"$ODF_RESULT"
echo "loaded $loaded rows where $ODF_PREDICATE"
