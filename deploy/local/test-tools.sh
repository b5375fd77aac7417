#!/usr/bin/env bash
# What a tier of tests needs of the machine besides Node.js: test-tools.sh verify|integration|e2e
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
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
    "$REPO/deploy/local/native/build.sh" kube helm versitygw ;;
esac
