#!/usr/bin/env bash
# Load the built images (those that images.env lists, or the file that is given) into kind's node.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=/dev/null
source "${1:-$WORK/images.env}"
if [ "$(engine)" = podman ]; then export KIND_EXPERIMENTAL_PROVIDER=podman; fi
for archive in "${!CRUCIBLE_ARCHIVE_@}"; do kind load image-archive --name crucible "${!archive}"; done
