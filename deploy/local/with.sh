#!/usr/bin/env bash
# with.sh COMMAND…: run it with the repository's Node.js, npm packages and built tools.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$REPO/deploy/local/node.sh" >&2 # standard output is the command's
cd "$REPO"
exec "$@"
