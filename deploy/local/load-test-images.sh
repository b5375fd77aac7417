#!/usr/bin/env bash
# Build images that only tests use and load them into the cluster that is up: load-test-images.sh NAME…
# Prints a line "NAME REFERENCE" for each.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
kind=$(cat "$WORK/kind" 2>/dev/null) || die "no cluster is up from here: make up"
[ "$kind" != existing ] || die "a cluster of yours cannot be given images from here"
images=()
[ "$kind" = kind ] || images=(CRUCIBLE_ENGINE=buildah)
out=$WORK/test/images
mkdir -p "$out"
env "${images[@]}" "$REPO/deploy/docker/build.sh" --log-dir "$LOGS" --out "$out" "$@" >&2
"$REPO/deploy/local/$kind/load-images.sh" "$out/images.env" >&2
# shellcheck source=/dev/null
source "$out/images.env"
for name in "$@"; do
  reference=CRUCIBLE_IMAGE_$(tr 'a-z-' 'A-Z_' <<<"$name")
  echo "$name ${!reference}"
done
