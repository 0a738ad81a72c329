#!/bin/sh
# Makes .venv from the pinned, hashed requirements; for tests and benchmarks also the servers and drivers they start.
# Usage: packaging/setup.sh demo|test|bench      (safe to repeat; does nothing when all is there)
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-demo}

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

# apt NAME...: installs Debian packages, or says which are missing and stops.
apt() {
    command -v apt-get >/dev/null 2>&1 || { say "setup: please install: $*"; exit 1; }
    say "setup: installing $*"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ||
        { say "setup: could not install: $* (run as root, or install them yourself)"; exit 1; }
}

# quietly COMMAND...: shows the end of its output only when it fails.
quietly() {
    "$@" >.setup.log 2>&1 || { tail -n 20 .setup.log >&2; rm -f .setup.log; return 1; }
    rm -f .setup.log
}

find_python() {
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

has_any() { for f in "$@"; do [ -e "$f" ] && return 0; done; return 1; }

python=$(find_python) || { apt python3 python3-venv; python=$(find_python) || { say "setup: Python 3.11 or newer is needed"; exit 1; }; }

pins=packaging/requirements/dev.txt
stamp=.venv/.pins
if [ ! -f "$stamp" ] || ! cmp -s "$pins" "$stamp"; then
    say "setup: making .venv (once, about half a minute)"
    rm -rf .venv
    "$python" -m venv .venv
    quietly .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r "$pins"
    quietly .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
    cp "$pins" "$stamp"
fi

missing=""
if [ "$purpose" = test ]; then
    has_any /usr/lib/postgresql/*/bin/initdb || missing="$missing postgresql"
    has_any /usr/lib/*/odbc/psqlodbcw.so /usr/lib/odbc/psqlodbcw.so || missing="$missing odbc-postgresql"
    command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || missing="$missing mariadb-server"
    has_any /usr/lib/*/odbc/libmaodbc.so || missing="$missing odbc-mariadb"
    command -v nats-server >/dev/null 2>&1 || [ -x /usr/sbin/nats-server ] || missing="$missing nats-server"
    command -v rabbitmq-server >/dev/null 2>&1 || [ -x /usr/sbin/rabbitmq-server ] || missing="$missing rabbitmq-server"
    command -v sshd >/dev/null 2>&1 || [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    # The fault shim of tests/chaos is compiled where it runs.
    command -v gcc >/dev/null 2>&1 || missing="$missing gcc"
    has_any /usr/include/*/sys/types.h /usr/include/sys/types.h || missing="$missing libc6-dev"
fi
if [ "$purpose" = test ] || [ "$purpose" = bench ]; then # the driver manager, which drivers only recommend
    has_any /usr/lib/*/libodbc.so.2 /usr/lib/libodbc.so.2 || missing="$missing libodbc2"
fi
if [ "$purpose" = bench ]; then
    command -v rsyslogd >/dev/null 2>&1 || missing="$missing rsyslog"
    has_any /usr/lib/*/rsyslog/omrelp.so || missing="$missing rsyslog-relp"
    command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
fi
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || apt $missing
