#!/usr/bin/env bash
# End the native cluster and remove every trace of it but the build cache. Safe to repeat, and
# enough to clean up after a run that was killed.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
NATIVE=$REPO/deploy/local/native
# shellcheck source=network.sh
source "$NATIVE/network.sh"
# shellcheck source=processes.sh
source "$NATIVE/processes.sh"

if [ "${1:-}" != --locked ]; then
  exec 9>/run/lock/crucible-local.lock
  flock -n 9 || die "another \`make up\` or \`make down\` is running: wait for it to end"
fi
[ "$(id -u)" = 0 ] || die "the native cluster was started by root: run \`sudo make down\`"

end_all
network_down
cgroups_down
# Mounts end with the mount namespace. What an interrupted start mounted outside it would be here.
awk -v s="$STATE/" -v r="$RUN/" 'index($2, s) == 1 || index($2, r) == 1 {print $2}' /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done
rm -rf "$STATE" "$RUN" "$WORK/kubeconfig"
# Mount points of the node's private namespace, if this machine had them for no other reason.
for d in /var/lib/kubelet /run/containerd/s /run/containerd /run/netns /var/lib/cni /run/runsc /var/log/pods /var/log/containers; do rmdir "$d" 2>/dev/null || true; done
