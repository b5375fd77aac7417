# shellcheck shell=bash
# Shared by every script of deploy/local: paths, progress, failing well.
set -euo pipefail
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=settings.sh
source "$REPO/deploy/local/settings.sh"
export CRUCIBLE_CACHE=$CACHE
export PATH="$CACHE/node/bin:$CACHE/bin:$PATH:/usr/sbin:/sbin"
: "${CRUCIBLE_STARTED:=$(date +%s)}"
export CRUCIBLE_STARTED

say() { printf '[%4ds] %s\n' "$(($(date +%s) - CRUCIBLE_STARTED))" "$*"; }
die() { printf '\n%s\n' "crucible: $*" >&2; exit 1; }

# step NAME COMMAND…: run it with its output in a log file; show how long it took, or the end of the log.
# It runs in a process group of its own: `set -e` stays on inside, and an interrupt ends all of it.
step() {
  local name=$1 begun log job; shift
  begun=$(date +%s)
  mkdir -p "$LOGS"
  log=$LOGS/$(tr -cs 'a-zA-Z0-9\n' - <<<"$name" | tr 'A-Z' 'a-z' | cut -c1-60 | sed 's/^-//;s/-$//').log
  say "$name …"
  set -m
  (set -e; "$@") >"$log" 2>&1 </dev/null &
  job=$!
  set +m
  # shellcheck disable=SC2064
  trap "kill -- -$job 2>/dev/null; exit 130" INT TERM
  if ! wait "$job"; then
    tail -n 15 "$log" | sed 's/^/    /' >&2
    die "'$name' failed after $(($(date +%s) - begun)) s; the whole log is $log"
  fi
  trap - INT TERM
  say "$name: done in $(($(date +%s) - begun)) s"
}

# retry SECONDS COMMAND…: until it succeeds, silently; 1 when the time is over.
retry() {
  local end=$(($(date +%s) + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    sleep 0.3
  done
}

kube() { "$CACHE/bin/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }

# Which kind of cluster: existing, kind or native.
cluster_kind() {
  if [ "${CLUSTER:-}" = existing ]; then
    [ -n "${KUBECONFIG:-}" ] || die "CLUSTER=existing needs KUBECONFIG: export the path of your cluster's kubeconfig"
    echo existing
  elif [ -n "${CLUSTER:-}" ]; then
    case $CLUSTER in kind | native) echo "$CLUSTER" ;; *) die "CLUSTER=$CLUSTER is not known: use existing, kind or native" ;; esac
  elif [ -n "$(engine)" ]; then
    echo kind
  else
    echo native
  fi
}

# The container engine that answers, if one does.
engine() {
  local e
  for e in docker podman; do
    if command -v $e >/dev/null && timeout 10 $e info >/dev/null 2>&1; then echo $e; return; fi
  done
}

# want PROGRAM-OR-FILE PACKAGE, then install_wanted: what is missing is installed where Debian's
# packages can be; anywhere else the reader is told what to install.
packages=()
want() { command -v "$1" >/dev/null || [ -e "$1" ] || packages+=("$2"); }
install_wanted() {
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "these programs are missing; install your distribution's packages of: ${packages[*]}"
  fi
  step "Install Debian packages: ${packages[*]}" apt_install "${packages[@]}"
  packages=()
}
apt_install() {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}
