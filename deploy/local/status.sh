#!/usr/bin/env bash
# `make status`: what runs of the local cluster, and how Crucible is.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=native/processes.sh
source "$REPO/deploy/local/native/processes.sh"
if [ ! -f "$KUBECONFIG_FILE" ] && [ ! -d "$RUN" ]; then
  echo "No cluster: \`make up\` starts one."
  exit 0
fi
if [ -d "$RUN/pids" ]; then
  printf '%-26s %-8s %-8s %s\n' COMPONENT STATE PID MEMORY
  for f in "$RUN"/pids/*; do
    [ -f "$f" ] || continue
    name=$(basename "$f")
    read -r pid _ <"$f"
    if alive "$name"; then
      printf '%-26s %-8s %-8s %s MiB\n' "$name" running "$pid" "$(awk '/VmRSS/{print int($2/1024)}' "/proc/$pid/status")"
    else
      printf '%-26s %-8s %-8s %s\n' "$name" ended - "see .crucible/logs/$name.log"
    fi
  done
  echo
fi
if [ -f "$KUBECONFIG_FILE" ]; then
  k() { kubectl --kubeconfig "$KUBECONFIG_FILE" --request-timeout=5s "$@"; }
  k get nodes || die "the cluster does not answer: \`make up\` starts it anew"
  echo
  k get pods -n crucible-system
  echo
  k get evaluations -A 2>/dev/null || true
fi
