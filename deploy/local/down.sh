#!/usr/bin/env bash
# `make down`: end and remove the local cluster; the build cache stays.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
kind=$(cat "$WORK/kind" 2>/dev/null || cluster_kind)
case $kind in
  native) step "Stop the native cluster" "$REPO/deploy/local/native/stop.sh" ;;
  kind)
    if [ "$(engine)" = podman ]; then export KIND_EXPERIMENTAL_PROVIDER=podman; fi
    step "Delete the kind cluster" kind delete cluster --name crucible ;;
  existing)
    # The cluster is yours: what was installed goes, evaluations and their CRDs stay.
    step "Uninstall Crucible" helm --kubeconfig "$KUBECONFIG_FILE" uninstall crucible --namespace crucible-system --ignore-not-found --wait ;;
esac
rm -f "$KUBECONFIG_FILE" "$WORK/kind"
