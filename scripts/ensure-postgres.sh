#!/usr/bin/env bash
# Makes sure that a PostgreSQL server (major 15 to 18) and psql are on this machine, and prints the
# folder of the server's programs. Installs Debian's or Ubuntu's package where there is none; on
# other systems it prints the command. Starts nothing and changes no existing server.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

# The major version of the server in a folder, if it can be used.
usable() {
  local bin=$1 version
  [[ -x $bin/postgres && -x $bin/initdb ]] || return 1
  version=$("$bin/postgres" --version 2>/dev/null) || return 1
  [[ $version =~ \)\ ([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] >= 15 && BASH_REMATCH[1] <= 18)) || return 1
  printf '%s\n' "${BASH_REMATCH[1]}"
}

# The folder of the newest usable server; ODF_PG_BIN, when set, is the only one looked at.
find_server() {
  local bin major best=0 found=
  local -a places=("${ODF_PG_BIN:-}")
  if [[ -z ${ODF_PG_BIN:-} ]]; then
    shopt -s nullglob
    places=("$(dirname "$(readlink -f "$(command -v postgres || true)")")"
      "$(pg_config --bindir 2>/dev/null || true)"
      /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin
      /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin)
  fi
  for bin in "${places[@]}"; do
    if [[ -n $bin ]] && major=$(usable "$bin") && ((major > best)); then
      best=$major found=$bin
    fi
  done
  [[ -n $found ]] && printf '%s\n' "$found"
}

have_psql() { [[ -x $1/psql ]] || command -v psql >/dev/null; }

complete() {
  local bin
  bin=$(find_server) && have_psql "$bin" && printf '%s\n' "$bin"
}

hint() {
  say "error: $1"
  say "hint: install PostgreSQL 15 to 18 with psql, then try again:"
  say "  Debian, Ubuntu:  sudo apt-get install -y postgresql"
  say "  Fedora:          sudo dnf install -y postgresql-server"
  say "  RHEL 8 and 9:    sudo dnf module install -y postgresql:16/server"
  say "  macOS:           brew install postgresql@17"
  say "or set ODF_PG_BIN to the folder that holds initdb and postgres."
  exit 1
}

complete && exit 0
[[ -n ${ODF_PG_BIN:-} ]] && hint "ODF_PG_BIN names $ODF_PG_BIN, where there is no usable server (or psql is nowhere)"
command -v apt-get >/dev/null || hint "there is no PostgreSQL 15 to 18 with psql on this machine"

as_root=()
if ((EUID != 0)); then
  # Asking for a password is fine where somebody can answer.
  if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    as_root=(sudo)
  else
    hint "there is no PostgreSQL 15 to 18 with psql here, and installing one needs root"
  fi
fi
say "No PostgreSQL 15 to 18 with psql here: installing the distribution's package (postgresql)."
{
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
} >&2 || hint "the package could not be installed"
complete || hint "the distribution's package is not of major 15 to 18"
