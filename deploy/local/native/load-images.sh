#!/usr/bin/env bash
# Import the built images into containerd; those it has already are left alone.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=/dev/null
source "$WORK/images.env"
ctr() { "$CACHE/bin/ctr" --address "$RUN/containerd/containerd.sock" --namespace k8s.io "$@"; }
have=$(ctr images list -q)
for image in "${!CRUCIBLE_IMAGE_@}"; do
  reference=${!image}
  archive=CRUCIBLE_ARCHIVE_${image#CRUCIBLE_IMAGE_}
  grep -qxF "$reference" <<<"$have" || ctr images import "${!archive}"
done
