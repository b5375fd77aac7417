# shellcheck shell=bash
# How each component of the native cluster is configured and started.
PKI=$STATE/pki
SOCKET=$RUN/containerd/containerd.sock

# place FILE: standard input into it, unless that is what it says: kube-proxy ends when its file is written, containerd
# forgets its network.
place() {
  cat >"$1.new"
  if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

control_plane_up() {
  run etcd "$CACHE/bin/etcd" --name crucible --data-dir "$STATE/etcd" \
    --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster crucible=http://127.0.0.1:2380 \
    --client-cert-auth --trusted-ca-file "$PKI/ca.crt" --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" \
    --unsafe-no-fsync --logger zap --log-level warn
  run kube-apiserver "$CACHE/bin/kube-apiserver" --bind-address "$NODE_IP" --advertise-address "$NODE_IP" --secure-port 6443 \
    --etcd-servers https://127.0.0.1:2379 --etcd-cafile "$PKI/ca.crt" --etcd-certfile "$PKI/etcd-client.crt" --etcd-keyfile "$PKI/etcd-client.key" \
    --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc.cluster.local --service-account-key-file "$PKI/service-accounts.pub" --service-account-signing-key-file "$PKI/service-accounts.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --service-cluster-ip-range $SERVICE_CIDR \
    --allow-privileged --profiling=false
  retry 60 kube get --raw /readyz
}

# The node's mount namespace. kubelet, containerd and CNI keep fixed paths that a machine may use for
# something else: here they are directories of ours.
keeper_up() {
  alive keeper && return
  mkdir -p "$STATE"/{kubelet,var-log,var-lib-cni,run-containerd,run-netns,run-runsc} /var/lib/kubelet /var/lib/cni /run/containerd /run/netns /run/runsc
  # shellcheck disable=SC2016
  run keeper unshare --mount --propagation private bash -c '
    set -e
    mount --make-rshared /
    mount --bind "$0/kubelet" /var/lib/kubelet
    mount --bind "$0/var-log" /var/log
    mount --bind "$0/var-lib-cni" /var/lib/cni
    mount --bind "$0/run-containerd" /run/containerd
    mount --bind "$0/run-netns" /run/netns
    mount --bind "$0/run-runsc" /run/runsc
    touch "$1/keeper.ready"
    exec sleep infinity' "$STATE" "$RUN"
  retry 10 test -f "$RUN/keeper.ready"
}

containerd_up() {
  local restrict=true
  # Without CAP_SYS_RESOURCE (bit 24) a container's oom_score_adj cannot be lowered, and runc fails.
  (((0x$(awk '/^CapEff/{print $2}' /proc/self/status) >> 24) & 1)) && restrict=false
  mkdir -p "$STATE/cni" "$STATE/cni-ipam" "$RUN/containerd"
  place "$STATE/runsc.toml" <<END
[runsc_config]
  platform = "systrap"
END
  place "$STATE/cni/10-crucible.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "crucible",
  "plugins": [{
    "type": "ptp", "ipMasq": false,
    "ipam": {"type": "host-local", "dataDir": "$STATE/cni-ipam", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}
END
  place "$STATE/containerd.toml" <<END
version = 3
root = "$STATE/containerd"
state = "$RUN/containerd/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "registry.k8s.io/pause:3.10"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = $restrict
  enable_unprivileged_ports = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "$CACHE/bin/runc"
        SystemdCgroup = false
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc]
      runtime_type = "io.containerd.runsc.v1"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc.options]
        TypeUrl = "io.containerd.runsc.v1.options"
        ConfigPath = "$STATE/runsc.toml"
END
  keeper_up
  run containerd nsenter --mount="/proc/$(cut -d' ' -f1 "$RUN/pids/keeper")/ns/mnt" -- \
    env PATH="$CACHE/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$CACHE/bin/containerd" --config "$STATE/containerd.toml" --log-level info
  retry 30 ctr version
  "$NATIVE/image.sh" registry.k8s.io/pause:3.10 "$CACHE/bin/pause" | ctr images import -
  "$NATIVE/image.sh" registry.k8s.io/coredns:local "$CACHE/bin/coredns" | ctr images import -
}

ctr() { "$CACHE/bin/ctr" --address "$SOCKET" --namespace k8s.io "$@"; }

node_up() {
  local enter
  enter=(nsenter --mount="/proc/$(cut -d' ' -f1 "$RUN/pids/keeper")/ns/mnt" --)
  # These limits hold raw Jobs to about 3 a second by default: too slow to measure anything against.
  local fast=(--kube-api-qps=500 --kube-api-burst=1000)
  run kube-controller-manager "$CACHE/bin/kube-controller-manager" --kubeconfig "$PKI/controller-manager.kubeconfig" \
    --authentication-kubeconfig "$PKI/controller-manager.kubeconfig" --authorization-kubeconfig "$PKI/controller-manager.kubeconfig" \
    --bind-address 127.0.0.1 --use-service-account-credentials --service-account-private-key-file "$PKI/service-accounts.key" --root-ca-file "$PKI/ca.crt" \
    --controllers '*,-nodeipam,-service-lb-controller,-node-route-controller,-cloud-node-lifecycle-controller' --concurrent-job-syncs=50 \
    --leader-elect=false --profiling=false "${fast[@]}"
  run kube-scheduler "$CACHE/bin/kube-scheduler" --kubeconfig "$PKI/scheduler.kubeconfig" --authentication-kubeconfig "$PKI/scheduler.kubeconfig" \
    --authorization-kubeconfig "$PKI/scheduler.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false --profiling=false "${fast[@]}"
  kubelet_config | place "$STATE/kubelet.yaml"
  # Policies before pods: with the engine up first, no pod has a moment without them.
  kube apply -f "$NATIVE/manifests/rbac.yaml"
  run netpol "$CACHE/bin/netpol" --kubeconfig "$PKI/netpol.kubeconfig" --pod-cidr $POD_CIDR
  retry 30 curl -sf http://127.0.0.1:10290/readyz
  run kubelet "${enter[@]}" "$CACHE/bin/kubelet" --config "$STATE/kubelet.yaml" --kubeconfig "$PKI/kubelet.kubeconfig" \
    --hostname-override $NODE_NAME --node-ip $NODE_IP --root-dir /var/lib/kubelet
  place "$STATE/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
bindAddress: $NODE_IP
hostnameOverride: $NODE_NAME
clusterCIDR: $POD_CIDR
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: ["$NODE_IP/32"]
clientConnection: {kubeconfig: "$PKI/proxy.kubeconfig"}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
  run kube-proxy "$CACHE/bin/kube-proxy" --config "$STATE/proxy.yaml"
  mkdir -p "$STATE/volumes"
  run storageclass "$CACHE/bin/storageclass" --kubeconfig "$PKI/storageclass.kubeconfig" --root "$STATE/volumes" --node $NODE_NAME
}

kubelet_config() {
  : >"$STATE/resolv.conf" # nothing outside is resolved
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
containerRuntimeEndpoint: unix://$SOCKET
clusterDNS: ["$DNS_IP"]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
seccompDefault: true
podPidsLimit: 1024 # a process in gVisor is three on the node
maxPods: 250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
makeIPTablesUtilChains: false
volumePluginDir: $STATE/volume-plugins
# There is nowhere to pull an image from again.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 200Mi, nodefs.available: 2%, imagefs.available: 2%}
END
}

addons_up() {
  sed "s/@DNS_IP@/$DNS_IP/; s/@TEST_INTERNET@/$TEST_INTERNET/" "$NATIVE/manifests/coredns.yaml" | kube apply -f -
  kube apply -f "$NATIVE/manifests/classes.yaml"
}

node_ready() {
  kube wait --for=condition=Ready "node/$NODE_NAME" --timeout=1s && kube -n kube-system rollout status deployment/coredns --timeout=1s
}
