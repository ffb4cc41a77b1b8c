#!/bin/sh
# Prints the folder of a usable PostgreSQL server (initdb and postgres, major 15 to 18).
#
# Where there is none, Debian and Ubuntu get their own package, installed without questions and
# without the cluster that the package would otherwise create and start. Elsewhere the command to
# type is printed and the exit status is 1. Standard output is the folder and nothing else.
#
# ODF_PG_BIN names the folder to use, if it is set.
set -eu

lowest=15
highest=18
config=/etc/postgresql-common/createcluster.conf
packaged_config=/usr/share/postgresql-common/createcluster.conf

say() {
    printf '%s\n' "$*" >&2
}

# Prints the major version of the server in folder $1; fails when there is none.
major_in() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
    version=$("$1/postgres" --version 2>/dev/null) || return 1
    # postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    version=${version#*"(PostgreSQL) "}
    version=${version%%[!0-9]*}
    [ -n "$version" ] || return 1
    printf '%s\n' "$version"
}

supported() {
    [ "$1" -ge "$lowest" ] && [ "$1" -le "$highest" ]
}

# Prints candidate folders, one a line.
candidates() {
    (
        IFS=:
        set -f
        for folder in $PATH; do
            # A link leads to the real folder, where the server's other files are.
            real=$(readlink -f "$folder/initdb" 2>/dev/null) && printf '%s\n' "${real%/*}"
            printf '%s\n' "$folder"
        done
    )
    pg_config --bindir 2>/dev/null || true
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin /opt/homebrew/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin \
        /usr/local/pgsql/bin /usr/libexec/postgresql*; do
        printf '%s\n' "$folder"
    done
}

# Prints the folder of the highest supported server; fails when there is none.
find_server() {
    candidates | {
        best=
        best_major=0
        while IFS= read -r folder; do
            major=$(major_in "$folder") || continue
            if supported "$major" && [ "$major" -gt "$best_major" ]; then
                best=$folder
                best_major=$major
            fi
        done
        [ -n "$best" ] && printf '%s\n' "$best"
    }
}

commands_to_type() {
    say "no PostgreSQL server $lowest to $highest was found. To install one:"
    say "  Debian, Ubuntu:  sudo apt-get install -y postgresql"
    say "  Fedora:          sudo dnf install -y postgresql-server"
    say "  RHEL 8 and 9:    sudo dnf module install -y postgresql:16/server"
    say "  macOS:           brew install postgresql@17"
    say "or set ODF_PG_BIN to the folder that holds initdb and postgres."
}

# Prints the package of the highest supported major that apt knows; fails when there is none.
package_known() {
    major=$highest
    while [ "$major" -ge "$lowest" ]; do
        if apt-cache policy "postgresql-$major" 2>/dev/null |
            grep -q '^ *Candidate: *[0-9]'; then
            printf 'postgresql-%s\n' "$major"
            return 0
        fi
        major=$((major - 1))
    done
    return 1
}

# Puts the configuration of pg_createcluster back as it was, or as its package has it.
restore_config() {
    if [ -n "$kept_config" ]; then
        cat "$kept_config" >"$config" && rm -f "$kept_config"
    elif [ -f "$packaged_config" ]; then
        cat "$packaged_config" >"$config"
        # Its package left a second copy beside ours.
        rm -f "$config.ucf-dist"
    else
        rm -f "$config"
        rmdir "${config%/*}" 2>/dev/null || true
    fi
}

# Installs Debian's or Ubuntu's server as root, without a cluster of its own.
install_with_apt() {
    package=$(package_known) || {
        apt-get update >&2 || say "apt-get update failed: trying with the lists that are there"
        package=$(package_known) || {
            say "apt knows no postgresql-$lowest to postgresql-$highest:" \
                "add the repository of https://apt.postgresql.org"
            return 1
        }
    }
    kept_config=
    if [ -e "$config" ]; then
        kept_config=$(mktemp)
        cat "$config" >"$kept_config"
    fi
    trap restore_config EXIT
    trap 'exit 130' HUP INT TERM
    mkdir -p "${config%/*}"
    printf '\ncreate_main_cluster = false\n' >>"$config"
    say "installing $package"
    DEBIAN_FRONTEND=noninteractive
    UCF_FORCE_CONFFOLD=1
    export DEBIAN_FRONTEND UCF_FORCE_CONFFOLD
    apt_install "$package" || { apt-get update >&2 && apt_install "$package"; } || return 1
}

apt_install() {
    apt-get install -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold "$1" </dev/null >&2
}

main() {
    if [ -n "${ODF_PG_BIN:-}" ]; then
        if major=$(major_in "$ODF_PG_BIN") && supported "$major"; then
            printf '%s\n' "$ODF_PG_BIN"
            return 0
        fi
        say "ODF_PG_BIN=$ODF_PG_BIN is not the folder of a PostgreSQL server $lowest to $highest"
        return 1
    fi
    find_server && return 0

    if [ -e /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; then
        if [ "$(id -u)" -eq 0 ]; then
            # In a shell of its own, whose end restores the configuration.
            if (install_with_apt) && find_server; then
                return 0
            fi
        elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            if sudo -n sh "$0" >&2 && find_server; then
                return 0
            fi
        fi
    fi
    commands_to_type
    return 1
}

main
