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

# Only what network_up made: without its note there is nothing of ours, and somebody else's cluster may
# use the same names and addresses.
network_down() {
  local name
  [ -f "$STATE/sysctls" ] || return 0
  for name in "inet crucible_guard" "inet crucible_netpol" "ip kube-proxy" "ip6 kube-proxy"; do
    # shellcheck disable=SC2086 # family and table
    nft delete table $name 2>/dev/null || true
  done
  # Pods' interfaces go with their network namespaces; what a killed run left has addresses of ours.
  ip -o -4 addr show to "$POD_CIDR" 2>/dev/null | while read -r _ name _; do
    case $name in veth*) ip link del "${name%@*}" 2>/dev/null || true ;; esac
  done
  ip link del $INTERFACE 2>/dev/null || true # and its peer and its routes
  ip route del unreachable $POD_CIDR metric 4096 2>/dev/null || true
  sysctl -q -p "$STATE/sysctls" >/dev/null 2>&1 || true
}
