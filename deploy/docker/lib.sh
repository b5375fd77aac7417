# shellcheck shell=bash disable=SC2034
# Shared by build.sh and base-images.sh (bash, sourced): where things are kept, how progress is said,
# and how buildah is called on a machine without a container engine.

repo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
docker_dir="$repo_root/deploy/docker"
cache="${CRUCIBLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/crucible}"
log_dir=""
started_at=${CRUCIBLE_STARTED:-$(date +%s)} # `make up` counts from its own start

# The two bases every Dockerfile starts from, under the names an engine would pull.
node_version=$(tr -d 'v \n' <"$repo_root/.nvmrc")
debian_image=docker.io/library/debian:13.1-slim
node_image="docker.io/library/node:$node_version-trixie-slim"

say() { printf '[%4ds] %s\n' "$(($(date +%s) - started_at))" "$*" >&2; }

# fail SENTENCE: the one sentence a person needs, then exit.
fail() {
  printf 'deploy/docker: %s\n' "$*" >&2
  exit 1
}

# end_tree PID: the process and all it has started.
end_tree() {
  local child
  for child in $(pgrep -P "$1"); do end_tree "$child"; done
  kill -TERM "$1" 2>/dev/null || true
}

# lock FD FILE: one build at a time per cache.
lock() {
  flock -n "$1" && return
  say "waiting for another build that uses the same cache"
  flock -w 1800 "$1" || fail "another build has held $2 for half an hour: end it and try again"
}

# logged NAME SENTENCE COMMAND...: run with all output in a log file; on failure name that file.
logged() {
  local log="$log_dir/$1.log" sentence=$2 status=0
  shift 2
  # In the background, so that a signal reaches this shell and ends the build too; not in an `if`, where bash would
  # ignore errors inside the function that is called.
  (set -e; "$@") >"$log" 2>&1 </dev/null &
  local child=$!
  trap 'end_tree "$child"; exit 130' INT TERM HUP
  wait "$child" || status=$?
  trap - INT TERM HUP
  if [ "$status" -ne 0 ]; then
    tail -n 15 "$log" | sed 's/^/    | /' >&2
    fail "$sentence; the log is $log"
  fi
}

# hash_of: the first twelve hex digits of the SHA-256 of standard input.
hash_of() { sha256sum | cut -c1-12; }

# digest_files PATH...: one "sha256  path" line for each file below the paths, in a stable order. Dependencies,
# build output and tests are left out: they never reach an image, so they must not cause a rebuild.
digest_files() {
  (
    cd "$repo_root" || exit 1
    find "$@" \( -name node_modules -o -name dist -o -name coverage -o -name .crucible \) -prune -o \
      -type f ! -name '*.test.ts' ! -name '*_test.go' ! -name '*.log' ! -name '*.md' -print0 |
      LC_ALL=C sort -z | xargs -0 -r sha256sum
  )
}

engine=""
# An engine counts only if it answers: a client without its daemon is no engine.
detect_engine() {
  local candidate
  for candidate in ${CRUCIBLE_ENGINE:-docker podman}; do
    if [ "$candidate" = buildah ]; then break; fi
    if command -v "$candidate" >/dev/null 2>&1 && timeout 10 "$candidate" info >/dev/null 2>&1; then
      engine=$candidate
      return
    fi
  done
  command -v buildah >/dev/null 2>&1 ||
    fail "neither a container engine (docker, podman) answers nor is buildah installed: apt-get install buildah mmdebstrap"
  engine=buildah
}

buildah_flags=()
# Overlay needs a filesystem below the cache that can carry it (not another overlay): tried once, else vfs.
prepare_buildah() {
  local storage="$cache/containers" driver
  mkdir -p "$storage"
  if [ ! -s "$storage/driver" ]; then
    mkdir -p "$storage/probe"/{lower,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$storage/probe/lower,upperdir=$storage/probe/upper,workdir=$storage/probe/work" \
      "$storage/probe/merged" 2>/dev/null; then
      umount "$storage/probe/merged"
      echo overlay >"$storage/driver"
    else
      echo vfs >"$storage/driver"
    fi
    rm -rf "$storage/probe"
  fi
  driver=$(cat "$storage/driver")
  # Our own policy file: images are only ever loaded from this machine, and many hosts have none.
  printf '{"default":[{"type":"insecureAcceptAnything"}]}\n' >"$storage/policy.json"
  buildah_flags=(--root "$storage/storage" --runroot "$storage/run" --storage-driver "$driver")
}

bah() { buildah "${buildah_flags[@]}" "$@"; }
