#!/bin/sh
# Installs what the tests start for themselves: PostgreSQL, Redis, SoftHSM2 and Python with protobuf, curl for the quick start, and
# a compiler for their helpers. For Debian.
# Without them the tests concerned are skipped, with the reason.
set -eu

missing=''
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v softhsm2-util >/dev/null 2>&1 || missing="$missing softhsm2"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v gcc >/dev/null 2>&1 || missing="$missing gcc"
/usr/bin/python3 -c 'import google.protobuf' 2>/dev/null || missing="$missing python3-protobuf"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "install these with your system's package manager:$missing" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# A cluster of the system's own is nobody's wish: each test starts a private one.
mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf ||
  echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get install -y -qq --no-install-recommends $missing >/dev/null
