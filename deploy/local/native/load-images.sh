#!/usr/bin/env bash
# Import the built images (those that images.env lists, or the file that is given) into containerd; those it has are left alone.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=/dev/null
source "${1:-$WORK/images.env}"
ctr() { "$CACHE/bin/ctr" --address "$RUN/containerd/containerd.sock" --namespace k8s.io "$@"; }
have=$(ctr images list -q)
for image in "${!CRUCIBLE_IMAGE_@}"; do
  reference=${!image}
  archive=CRUCIBLE_ARCHIVE_${image#CRUCIBLE_IMAGE_}
  grep -qxF "$reference" <<<"$have" || ctr images import "${!archive}"
done
