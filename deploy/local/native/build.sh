#!/usr/bin/env bash
# Build the native cluster's programs from Go modules into the cache, each under a name that
# holds the hash of all that goes into it: what is there already is not built again.
#   build.sh [PROGRAM…]   all, or those named
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
cd "$REPO/deploy/local"
mkdir -p "$CACHE/bin" "$CACHE/tmp"
only=" $* "

# key DIR WORD…: what decides the content of a build.
key() {
  local dir=$1; shift
  { go version; echo "$@"; find "$dir" -path ./native -prune -o \( -name '*.go' -o -name go.mod -o -name go.sum \) ! -name '*_test.go' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-12
}

# build NAME DIR PACKAGE CGO FLAGS…: one program.
build() {
  local name=$1 dir=$2 package=$3 cgo=$4 target; shift 4
  [[ $only = "  " || $only = *" $name "* ]] || return 0
  target=$CACHE/bin/$name-$(cd "$dir" && key . "$name" "$package" "$cgo" "$@")
  if [ ! -x "$target" ]; then
    step "Build $name" go_build "$dir" "$cgo" "$target" "$@" "$package"
    find "$CACHE/bin" -maxdepth 1 -name "$name-????????????" ! -path "$target" -delete
  fi
  ln -sfn "$(basename "$target")" "$CACHE/bin/$name"
}

# The output appears under its name only when it is whole: an interrupted build is not taken for one.
go_build() {
  local dir=$1 cgo=$2 target=$3; shift 3
  cd "$dir"
  CGO_ENABLED=$cgo GOFLAGS=-buildvcs=false go build -trimpath -o "$CACHE/tmp/$(basename "$target")" "$@"
  mv "$CACHE/tmp/$(basename "$target")" "$target"
}

version=k8s.io/component-base/version
small='-s -w'
build kube . ./cmd/kube 0 -ldflags "$small -X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=34 -X $version.gitTreeState=clean"
build pause . ./cmd/pause 0 -ldflags "$small"
build storageclass native/storageclass . 0 -ldflags "$small"
for c in containerd containerd-shim-runc-v2 ctr; do
  build $c native/containerd github.com/containerd/containerd/v2/cmd/$c 0 -ldflags "$small"
done
build runc native/runc github.com/opencontainers/runc 1 -tags seccomp -ldflags "$small"
build runsc native/gvisor gvisor.dev/gvisor/runsc 0 -ldflags "$small"
build containerd-shim-runsc-v1 native/gvisor ./shim 0 -ldflags "$small"
build coredns native/coredns github.com/coredns/coredns 0 -ldflags "$small"
build helm native/helm helm.sh/helm/v3/cmd/helm 0 -ldflags "$small"
# No part of the cluster: the S3 server that the integration tests run the file store on, and the nodes of benchmarks.
if [[ $only = *" kwok "* ]]; then
  build kwok native/kwok sigs.k8s.io/kwok/cmd/kwok 0 -ldflags "$small"
fi
if [[ $only = *" versitygw "* ]]; then
  build versitygw native/versitygw github.com/versity/versitygw/cmd/versitygw 0 -ldflags "$small"
fi
for c in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl netpol; do
  ln -sfn kube "$CACHE/bin/$c"
done
