#!/usr/bin/env bash
# Builds Crucible's images (those the chart deploys, or those named) and keeps each as an archive that docker, kind, podman and
# containerd can load. An image's tag carries the hash of everything that goes into it, so an image that did not change
# is not built again, and a cluster never runs an old one under a new name.
#
#   deploy/docker/build.sh [--cache DIR] [--log-dir DIR] [--out DIR] [--list] [IMAGE...]
#
# --list prints the names and tags and builds nothing. With docker or podman answering they build (CRUCIBLE_ENGINE
# chooses: docker, podman or buildah); otherwise buildah does, on base images made by base-images.sh. Left in the
# output directory, by default the archives' own:
#   images.json  Helm values ({images: {operator: {repository, tag}, ...}}): `helm upgrade -f images.json`
#   images.env   CRUCIBLE_IMAGE_<NAME>= reference, CRUCIBLE_ARCHIVE_<NAME>= path and CRUCIBLE_SBOM_<NAME>= path, for shells
# Beside each archive lies its bill of materials (CycloneDX JSON, by sbom.ts), where Node.js can make it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# In the order of their dependencies: the runtimes copy the launcher. Those the chart deploys, then those that are only
# built when named.
default_images=(launcher operator api runtime-python runtime-node runtime-bash postgres redis)
all_images=("${default_images[@]}" test-hostile test-volume)
version=$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\} *$/\1/p' "$repo_root/charts/crucible/Chart.yaml")

# inputs NAME: the paths below the repository root that decide what is in the image.
inputs() {
  local workspaces="package.json package-lock.json crds/package.json storage/package.json operator/package.json api/package.json api/client/package.json api/cli/package.json test/package.json"
  echo "deploy/docker/$1.Dockerfile"
  case $1 in
  launcher) echo operator/launcher ;;
  operator) echo "$workspaces crds/src storage/src storage/migrations operator/src operator/src/main.ts" ;;
  api) echo "$workspaces crds/src storage/src operator/src api/src" ;;
  postgres | redis) echo "deploy/docker/$1" ;;
  esac
}

base_key=""
declare -A tags=()

# tag_of NAME → tags[NAME]; fails when a source is missing.
tag_of() {
  local name=$1 path
  local -a paths
  [ -z "${tags[$name]:-}" ] || return 0
  read -r -a paths <<<"$(inputs "$name" | tr '\n' ' ')"
  for path in "${paths[@]}"; do
    [ -e "$repo_root/$path" ] || fail "the image $name cannot be built: $path does not exist"
  done
  [[ $name != runtime-* ]] || tag_of launcher
  tags[$name]="$version-$({
    digest_files "${paths[@]}"
    echo "$(uname -m) base=$base_key"
    [[ $name != runtime-* ]] || echo "launcher=${tags[launcher]}"
  } | hash_of)"
}

reference() { echo "docker.io/crucible/$1:${tags[$1]}"; }
archive() { echo "$cache/images/$1-${tags[$1]#"$version-"}.tar"; }

build_arguments() {
  [[ $1 != runtime-* ]] || echo "--build-arg=LAUNCHER_IMAGE=$(reference launcher)"
}

build_with_engine() {
  local name=$1
  # shellcheck disable=SC2046 # one argument or none
  "$engine" build -f "$docker_dir/$name.Dockerfile" -t "$(reference "$name")" $(build_arguments "$name") "$repo_root"
  "$engine" save -o "$(archive "$name").part" "$(reference "$name")"
}

# The host's certificate bundle is bound to a path of its own (a package in the image owns the usual one) and named by
# build arguments that only build stages declare, so that machines behind an intercepting proxy can fetch packages and
# no image keeps a trace of it.
build_with_buildah() {
  local name=$1 bundle=/etc/ssl/certs/ca-certificates.crt
  local -a trust=()
  if [ -s "$bundle" ]; then
    trust=(--volume "$bundle:/run/build-ca.crt:ro" --build-arg SSL_CERT_FILE=/run/build-ca.crt --build-arg NODE_EXTRA_CA_CERTS=/run/build-ca.crt)
  fi
  # shellcheck disable=SC2046 # one argument or none
  bah bud --isolation chroot --pull-never --layers --timestamp 0 --signature-policy "$cache/containers/policy.json" \
    "${trust[@]}" $(build_arguments "$name") -f "$docker_dir/$name.Dockerfile" -t "$(reference "$name")" "$repo_root"
  bah push --signature-policy "$cache/containers/policy.json" "$(reference "$name")" "docker-archive:$(archive "$name").part:$(reference "$name")"
}

# A build needs the images its Dockerfile copies from in the local store; the archive may be all that is left.
ensure_loaded() {
  local name=$1
  if [ "$engine" = buildah ]; then
    bah inspect --type image "$(reference "$name")" >/dev/null 2>&1 ||
      logged "load-$name" "the image $name could not be loaded from its archive" \
        bah pull --signature-policy "$cache/containers/policy.json" "docker-archive:$(archive "$name")"
  else
    "$engine" image inspect "$(reference "$name")" >/dev/null 2>&1 ||
      logged "load-$name" "the image $name could not be loaded from its archive" "$engine" load -i "$(archive "$name")"
  fi
}

build() {
  local name=$1 begun=$SECONDS size
  if [ -s "$(archive "$name")" ]; then
    [ "${2:-}" = quiet ] || say "$name: unchanged (${tags[$name]})"
    return 0
  fi
  [[ $name != runtime-* ]] || { build launcher quiet; ensure_loaded launcher; }
  say "$name: building ${tags[$name]}"
  rm -f "$(archive "$name").part"
  if [ "$engine" = buildah ]; then
    logged "$name" "the image $name could not be built" build_with_buildah "$name"
  else
    logged "$name" "the image $name could not be built" build_with_engine "$name"
  fi
  mv "$(archive "$name").part" "$(archive "$name")"
  size=$(du -m "$(archive "$name")" | cut -f1)
  say "$name: built in $((SECONDS - begun)) s, $size MB"
}

bill() { echo "$(archive "$1" | sed 's/[.]tar$//').cdx.json"; }

# An image is of use without its bill, so what makes none is said and ends nothing.
write_bill() {
  local file
  file=$(bill "$1")
  [ ! -s "$file" ] || return 0
  if node "$docker_dir/sbom.ts" "$1" "${tags[$1]}" "$(archive "$1")" >"$file.part" 2>"$log_dir/$1-sbom.log"; then
    mv "$file.part" "$file"
  else
    rm -f "$file.part"
    say "$1: no bill of materials (see $log_dir/$1-sbom.log)"
  fi
}

# helm_key NAME: runtime-python → runtimePython, as values.yaml has it.
helm_key() { sed -E 's/-([a-z])/\U\1/g' <<<"$1"; }

write_results() {
  local name separator="" upper
  {
    printf '{\n  "images": {'
    for name in "$@"; do
      printf '%s\n    "%s": { "repository": "docker.io/crucible/%s", "tag": "%s" }' "$separator" "$(helm_key "$name")" "$name" "${tags[$name]}"
      separator=,
    done
    printf '\n  }\n}\n'
  } >"$out/images.json.part"
  for name in "$@"; do
    upper=$(tr 'a-z-' 'A-Z_' <<<"$name")
    printf 'CRUCIBLE_IMAGE_%s=%q\nCRUCIBLE_ARCHIVE_%s=%q\n' "$upper" "$(reference "$name")" "$upper" "$(archive "$name")"
    [ ! -s "$(bill "$name")" ] || printf 'CRUCIBLE_SBOM_%s=%q\n' "$upper" "$(bill "$name")"
  done >"$out/images.env.part"
  mv "$out/images.json.part" "$out/images.json"
  mv "$out/images.env.part" "$out/images.env"
}

out="" list=false
names=()
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
  --cache) cache=$2; shift 2 ;;
  --log-dir) log_dir=$2; shift 2 ;;
  --out) out=$2; shift 2 ;;
  --list) list=true; shift ;;
  -*) fail "unknown argument $1; usage: build.sh [--cache DIR] [--log-dir DIR] [--out DIR] [--list] [IMAGE...]" ;;
  *)
    [[ " ${all_images[*]} " == *" $1 "* ]] || fail "there is no image $1; there are: ${all_images[*]}"
    names+=("$1"); shift ;;
  esac
done
[ ${#names[@]} -gt 0 ] || names=("${default_images[@]}")
log_dir=${log_dir:-$cache/logs/images}
out=${out:-$cache/images}
mkdir -p "$cache/images" "$log_dir" "$out"

[ -n "$version" ] || fail "charts/crucible/Chart.yaml names no appVersion"
if grep -hoE 'library/node:[0-9.]+' "$docker_dir"/*.Dockerfile | grep -qvF "library/node:$node_version"; then
  fail "a Dockerfile starts from another Node.js than .nvmrc names ($node_version)"
fi

exec 8>"$cache/images/.lock"
lock 8 "$cache/images/.lock"
detect_engine
# buildah's mounts are in a mount namespace that ends with this script: neither a finished build nor one that is killed
# leaves them on the machine.
if [ "$engine" = buildah ] && [ "$(id -u)" = 0 ] && [ -z "${CRUCIBLE_BUILD_NAMESPACE:-}" ]; then
  CRUCIBLE_BUILD_NAMESPACE=1 exec unshare --mount --propagation slave bash "${BASH_SOURCE[0]}" ${arguments[@]+"${arguments[@]}"}
fi
if [ "$engine" = buildah ]; then
  "$docker_dir/base-images.sh" --cache "$cache" --log-dir "$log_dir"
  prepare_buildah
  base_key=$(cat "$cache/bases/key")
fi
for name in "${names[@]}"; do tag_of "$name"; done
if [ "$list" = true ]; then
  for name in "${names[@]}"; do echo "$name $(reference "$name")"; done
  exit 0
fi
for name in "${names[@]}"; do
  build "$name"
  write_bill "$name"
done
write_results "${names[@]}"
say "images: ${#names[@]} ready, listed in $out/images.json"
