#!/usr/bin/env bash
# What a tier of tests needs of the machine besides Node.js: test-tools.sh verify|integration|e2e|bench
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The Python program that tries the API's contract, in a place of its own in the build cache.
SCHEMATHESIS_VERSION=4.32.5
install_schemathesis() {
  local home=$CACHE/schemathesis
  [ "$(cat "$home/version" 2>/dev/null)" != "$SCHEMATHESIS_VERSION" ] || return 0
  rm -rf "$home"
  python3 -m venv "$home"
  "$home/bin/pip" install --disable-pip-version-check --no-input --quiet --timeout 60 --retries 5 "schemathesis==$SCHEMATHESIS_VERSION"
  echo "$SCHEMATHESIS_VERSION" >"$home/version"
}

case ${1:-} in
  verify)
    want shellcheck shellcheck
    install_wanted
    "$REPO/deploy/local/native/build.sh" helm ;;
  integration)
    want gcc gcc
    want openssl openssl
    want nft nftables
    want faketime faketime
    # Debian keeps what a virtual environment needs in a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    # Debian's postgresql starts a server when it is installed, unless told that there is no cluster to make.
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
      if [ -d /etc ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
      fi
      packages+=(postgresql)
    fi
    if ! command -v valkey-server >/dev/null && ! command -v redis-server >/dev/null; then packages+=(redis-server); fi
    install_wanted
    "$REPO/deploy/local/native/build.sh" kube helm versitygw
    step "Install schemathesis $SCHEMATHESIS_VERSION" install_schemathesis ;;
  bench)
    "$REPO/deploy/local/test-tools.sh" integration
    "$REPO/deploy/local/native/build.sh" kwok ;;
esac
