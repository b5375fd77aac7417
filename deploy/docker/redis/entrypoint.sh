#!/bin/sh
# Starts Valkey. Arguments go to the server (`--name value`).
#
#   PASSWORD_FILE   holds the password every client needs   [/etc/redis/password]
#
# The password goes to the server on standard input: on the command line every process of the node could read it.
set -eu
file=${PASSWORD_FILE:-/etc/redis/password}
if [ ! -s "$file" ]; then
  echo "entrypoint: there is no password: $file is missing or empty" >&2
  exit 64
fi
# In the configuration's double quotes only these two need a backslash; a trailing newline is not part of the password.
password=$(sed 's/[\\"]/\\&/g' "$file")
exec valkey-server - --save '' --appendonly no --dir /data "$@" <<CONFIG
requirepass "$password"
CONFIG
