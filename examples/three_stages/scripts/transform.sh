#!/usr/bin/env bash
# The status as one capital letter. A pipe that breaks anywhere is a failure; so is a word nobody knows.
set -euo pipefail
awk -F, -v OFS=, '
  NR == 1 { print; next }
  $2 == "open" { $2 = "O"; print; next }
  $2 == "filled" { $2 = "F"; print; next }
  $2 == "paid" { $2 = "P"; print; next }
  { print "line " NR ": unknown status " $2 > "/dev/stderr"; exit 65 }
' "$ODF_INPUT" | gzip >"$ODF_STAGING"
printf '{"rows": %s}\n' "$(($(zcat "$ODF_STAGING" | wc -l) - 1))" >"$ODF_RESULT"
