# shellcheck shell=bash
# The native cluster's network: an address for the node that is not the machine's uplink, and a
# guard that keeps everything of the cluster on this machine.

SYSCTLS=(net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops)

network_up() {
  # What kubelet and we change is noted once, to be put back by `make down`.
  if [ ! -f "$STATE/sysctls" ]; then
    for s in "${SYSCTLS[@]}"; do sysctl "$s" >>"$STATE/sysctls" 2>/dev/null || true; done
  fi
  sysctl -q -w net.ipv4.ip_forward=1
  ip link show $INTERFACE >/dev/null 2>&1 || ip link add $INTERFACE type veth peer name ${INTERFACE}p
  ip addr replace $NODE_IP/32 dev $INTERFACE
  ip link set $INTERFACE up
  ip link set ${INTERFACE}p up
  # Addresses without an owner must not follow the default route off the machine.
  ip route replace unreachable $POD_CIDR metric 4096
  ip route replace $SERVICE_CIDR dev $INTERFACE src $NODE_IP
  guard_up
}

# Nothing leaves: neither what pods send nor what anyone sends to addresses of the cluster, to
# link-local ones (cloud metadata) or to the address at which tests play the internet.
# And no IPv6 from pods: the cluster is IPv4 only, their link-local addresses are not policed.
guard_up() {
  nft -f - <<END
table inet crucible_guard
delete table inet crucible_guard
table inet crucible_guard {
  chain postrouting {
    type filter hook postrouting priority 0; policy accept;
    oifname "lo" accept
    oifname "veth*" accept
    oifname "crucible*" accept
    ip saddr { $POD_CIDR, $SERVICE_CIDR, $NODE_IP/32 } drop
    ip daddr { $POD_CIDR, $SERVICE_CIDR, $NODE_IP/32, 169.254.0.0/16, $TEST_INTERNET/32, 100.100.100.200/32 } drop
    ip6 daddr fd00:ec2::254 drop
  }
  chain input {
    type filter hook input priority -20; policy accept;
    iifname "veth*" meta nfproto ipv6 drop
  }
  chain forwarded {
    type filter hook forward priority -20; policy accept;
    iifname "veth*" meta nfproto ipv6 drop
  }
}
END
}

network_down() {
  local t l
  nft list tables 2>/dev/null | while read -r _ family t; do
    case $t in crucible_* | kube-proxy) nft delete table "$family" "$t" ;; esac
  done
  for l in $(ip -o link show 2>/dev/null | awk -F': ' '{print $2}' | cut -d@ -f1 | grep -E "^crucible" || true); do ip link del "$l" 2>/dev/null || true; done
  # Pods' interfaces go with their network namespaces; what a killed run left has addresses of ours.
  for l in $(ip -o -4 addr show 2>/dev/null | awk '$4 ~ /^10\.244\./ {print $2}'); do ip link del "${l%@*}" 2>/dev/null || true; done
  ip route del unreachable $POD_CIDR metric 4096 2>/dev/null || true
  ip route del $SERVICE_CIDR 2>/dev/null || true
  if [ -f "$STATE/sysctls" ]; then sysctl -q -p "$STATE/sysctls" >/dev/null 2>&1 || true; fi
}
