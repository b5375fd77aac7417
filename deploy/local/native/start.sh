#!/usr/bin/env bash
# A real single-node Kubernetes on this machine, without a container engine.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
NATIVE=$REPO/deploy/local/native
# shellcheck source=network.sh
source "$NATIVE/network.sh"
# shellcheck source=processes.sh
source "$NATIVE/processes.sh"
# shellcheck source=pki.sh
source "$NATIVE/pki.sh"
# shellcheck source=components.sh
source "$NATIVE/components.sh"

# Two runs at once would undo each other.
exec 9>/run/lock/crucible-local.lock
flock -n 9 || die "another \`make up\` or \`make down\` is running: wait for it to end"

"$NATIVE/preflight.sh"
"$NATIVE/build.sh"

if [ -d "$STATE" ] || [ -d "$RUN" ] || [ -n "$(our_pids)" ]; then
  if ! { alive keeper && alive containerd && alive etcd; }; then
    step "Clean up after an earlier run that did not end well" "$NATIVE/stop.sh" --locked
  fi
fi

mkdir -p "$STATE" "$RUN" "$WORK" "$LOGS"
step "Network and guard" network_up
step "Control groups" cgroup_up
step "Certificates" pki_up
cp "$STATE/pki/admin.kubeconfig" "$KUBECONFIG_FILE"
step "etcd and API server" control_plane_up
step "containerd" containerd_up
step "Scheduler, controllers, kubelet, proxy, network policies, volumes" node_up
step "Cluster DNS, StorageClass, RuntimeClass gvisor" addons_up
step "Wait for the node" retry 90 node_ready
