#!/usr/bin/env bash
# A cluster by kind, where a container engine answers.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
for tool in kind kubectl helm; do
  command -v $tool >/dev/null || die "$tool is missing: install it, or use CLUSTER=native for a cluster without an engine"
done
if [ "$(engine)" = podman ]; then export KIND_EXPERIMENTAL_PROVIDER=podman; fi
create() {
  kind get clusters | grep -qx crucible || kind create cluster --config "$REPO/deploy/local/kind/cluster.yaml" --wait 120s
  kind export kubeconfig --name crucible --kubeconfig "$KUBECONFIG_FILE"
}
step "Create the kind cluster" create
# gVisor needs its programs in the node's image; kind's own has none.
if "$(engine)" exec crucible-control-plane sh -c 'command -v runsc && command -v containerd-shim-runsc-v1' >/dev/null 2>&1; then
  step "RuntimeClass gvisor" kubectl --kubeconfig "$KUBECONFIG_FILE" apply -f "$REPO/deploy/local/kind/gvisor.yaml"
else
  say "RuntimeClass gvisor is absent: this kind node image has no runsc. Evaluations that ask for it will be refused."
fi
