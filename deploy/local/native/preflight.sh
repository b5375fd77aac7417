#!/usr/bin/env bash
# What the native cluster needs of a machine: found out here, at the start, each with its remedy.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

[ "$(uname -s)" = Linux ] || die "the native cluster runs on Linux only: install Docker or Podman, and \`make up\` will use kind"
[ "$(id -u)" = 0 ] || die "the native cluster needs root: run \`sudo make up\`, or install Docker or Podman for kind"
case $(uname -m) in x86_64 | aarch64) ;; *) die "the native cluster is built for x86_64 and aarch64, this machine is $(uname -m)" ;; esac

has_capability() { # by bit number, see capability.h
  (((0x$(awk '/^CapEff/{print $2}' /proc/self/status) >> $1) & 1))
}
has_capability 21 || die "CAP_SYS_ADMIN is missing (an unprivileged container?): use a virtual machine or a privileged container"
has_capability 12 || die "CAP_NET_ADMIN is missing: run where network interfaces can be made, for instance a virtual machine"

free_gib=$(df -Pk "$(dirname "$STATE")" | awk 'NR==2{print int($4/1048576)}')
[ "$free_gib" -ge 12 ] || die "only $free_gib GiB are free on the disk of $STATE, the first build needs 12: free some space"
memory_gib=$(awk '/MemAvailable/{print int($2/1048576)}' /proc/meminfo)
[ "$memory_gib" -ge 4 ] || die "only $memory_gib GiB of memory are available, the cluster needs 4: stop something or use a larger machine"

# cgroups: version 2 alone, or the version 1 controllers that a kubelet needs.
if [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
  for c in cpu cpuacct cpuset memory pids; do
    mountpoint -q /sys/fs/cgroup/$c || grep -qE "cgroup .*[ ,]${c}[ ,]" /proc/mounts ||
      die "the cgroup controller '$c' is not mounted: mount it with \`mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c\`"
  done
elif [ -f /sys/fs/cgroup/cgroup.subtree_control ]; then
  for c in cpu memory pids; do
    grep -qw $c /sys/fs/cgroup/cgroup.controllers || die "the cgroup controller '$c' is not available: enable it on the kernel's command line"
  done
fi
for f in overlay tmpfs; do
  grep -qw $f /proc/filesystems || modprobe $f 2>/dev/null || die "the kernel has no $f file system: use a kernel that has it"
done

want nft nftables
want ip iproute2
want openssl openssl
want gcc gcc
want pkg-config pkg-config
want buildah buildah
want mmdebstrap mmdebstrap
want curl curl
want xz xz-utils
want /usr/lib/cni/ptp containernetworking-plugins
want /usr/include/seccomp.h libseccomp-dev
want modprobe kmod
want conntrack conntrack
install_wanted
command -v go >/dev/null || die "Go is missing: install Go 1.26.3 or newer and put it on the PATH"
go_version=$(go env GOVERSION | sed 's/^go//;s/[^0-9.].*//')
[ "$(printf '%s\n1.26.3\n' "$go_version" | sort -V | head -1)" = 1.26.3 ] || die "Go $go_version is too old: install Go 1.26.3 or newer"
# Addresses of the cluster that are somebody else's already, ours apart.
for cidr in "$POD_CIDR" "$SERVICE_CIDR" "$NODE_IP/32"; do
  taken=$(ip -4 route show root "$cidr" 2>/dev/null | grep -vE "crucible|veth|^unreachable" | head -1 || true)
  [ -z "$taken" ] || die "this machine has a route into $cidr ($taken): change POD_CIDR, SERVICE_CIDR or NODE_IP in deploy/local/settings.sh"
done
for port in 2379 2380 10249 10256 10290; do
  if ss -Hltn "sport = :$port" 2>/dev/null | grep -q . && [ ! -d "$RUN" ]; then
    die "port $port of this machine is in use: another Kubernetes or etcd? Stop it, or use CLUSTER=existing"
  fi
done
# nftables in this kernel, tried and not assumed; the table's name is ours and it goes at once.
nft -f - <<<'table inet crucible_probe { chain c { type filter hook postrouting priority 0; ct state established accept; }; }; delete table inet crucible_probe' 2>/dev/null ||
  die "the kernel refuses nftables rules with connection tracking: use a kernel with CONFIG_NF_TABLES and CONFIG_NFT_CT"
