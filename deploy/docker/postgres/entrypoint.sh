#!/bin/sh
# Starts PostgreSQL; makes the database cluster on the first start. Arguments go to the server (`-c name=value`).
#
#   PGDATA            where the cluster lives, below the volume's root   [/var/lib/postgresql/data/17]
#   POSTGRES_DATABASE the database                                       [crucible]
#   POSTGRES_OWNER    the role that owns it (and runs the migrations)    [crucible_owner]
#   PASSWORD_DIR      one file per role, named as the role, holding its password; must contain the owner's
#                                                                        [/etc/postgres/passwords]
#   TLS_DIR           tls.crt and tls.key; with them plain connections are refused   [/etc/postgres/tls]
#
# Every start sets the passwords again, so that a changed Secret takes effect with a restart. The superuser `postgres`
# has no password: it can only connect over the socket inside this container.
set -eu
umask 0077

PGDATA=${PGDATA:-/var/lib/postgresql/data/17}
database=${POSTGRES_DATABASE:-crucible}
owner=${POSTGRES_OWNER:-crucible_owner}
passwords=${PASSWORD_DIR:-/etc/postgres/passwords}
tls=${TLS_DIR:-/etc/postgres/tls}

fail() {
  echo "entrypoint: $*" >&2
  exit 64
}

# Role and database names go into SQL as identifiers; this is all that is needed, and nothing to escape.
check_name() {
  case $1 in
  '' | *[!a-z0-9_]*) fail "\"$1\" is not a usable name; use lower-case letters, digits and underscores" ;;
  esac
}

# statements for single-user mode with -j: each ends with a semicolon and an empty line.
role_statements() {
  for file in "$passwords"/*; do
    role=$(basename "$file")
    check_name "$role"
    [ -s "$file" ] || fail "the password file $file is empty"
    # A quote in the password is doubled; a trailing newline is not part of it.
    password=$(sed "s/'/''/g" "$file")
    printf "DO \$\$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '%s') THEN CREATE ROLE %s; END IF; END\$\$;\n\n" "$role" "$role"
    printf "ALTER ROLE %s WITH LOGIN NOSUPERUSER PASSWORD '%s';\n\n" "$role" "$password"
    [ "$role" = "$owner" ] || printf 'GRANT CONNECT ON DATABASE %s TO %s;\n\n' "$database" "$role"
  done
}

# Single-user mode answers errors with a message and exit status 0, so its output is what is checked.
single_user() {
  output=$(postgres --single -j -D "$1" -c jit=off -c log_min_messages=warning "$2" 2>&1 >/dev/null) || fail "PostgreSQL could not run in single-user mode: $output"
  case $output in
  *ERROR:* | *FATAL:* | *PANIC:*) fail "$(printf '%s\n' "$output" | grep -E 'ERROR:|FATAL:|PANIC:' | head -n 1)" ;;
  esac
}

initialise() {
  # Made beside and renamed: a start that was interrupted leaves nothing that looks like a cluster.
  new="$PGDATA.new"
  rm -rf "$new"
  initdb --pgdata="$new" --username=postgres --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 \
    --auth-local=peer --auth-host=scram-sha-256 --data-checksums --no-instructions
  single_user "$new" postgres <<SQL
CREATE ROLE $owner;

CREATE DATABASE $database OWNER $owner;

REVOKE ALL ON DATABASE $database FROM PUBLIC;

SQL
  mv "$new" "$PGDATA"
}

write_access_rules() {
  connection=host
  [ -s "$tls/tls.crt" ] && connection=hostssl
  cat >"$PGDATA/pg_hba.conf" <<HBA
local      all          postgres  peer
$connection  $database  all       all  scram-sha-256
HBA
}

check_name "$database"
check_name "$owner"
[ -s "$passwords/$owner" ] || fail "there is no password for the owner: $passwords/$owner is missing or empty"
mkdir -p "$(dirname "$PGDATA")"
[ -s "$PGDATA/PG_VERSION" ] || initialise
# A volume's group handling (fsGroup) may have opened the directory; PostgreSQL refuses to start then.
chmod 0700 "$PGDATA"
# Left by a container that was killed: the process it names is of another pid namespace.
rm -f "$PGDATA/postmaster.pid"
role_statements | single_user "$PGDATA" "$database"
write_access_rules

set -- "$@" -c jit=off -c "listen_addresses=*" -c unix_socket_directories=/var/run/postgresql -c password_encryption=scram-sha-256
if [ -s "$tls/tls.crt" ]; then
  set -- "$@" -c ssl=on -c "ssl_cert_file=$tls/tls.crt" -c "ssl_key_file=$tls/tls.key" -c ssl_min_protocol_version=TLSv1.3
fi
exec postgres -D "$PGDATA" "$@"
