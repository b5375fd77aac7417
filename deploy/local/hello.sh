#!/usr/bin/env bash
# The main job: apply the sample evaluation, wait for its end, show what came of it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
sample=$REPO/deploy/samples/hello.yaml
k() { kubectl --kubeconfig "$KUBECONFIG_FILE" -n evals "$@"; }
field() { k get evaluation hello -o "jsonpath={$1}"; }

# An evaluation runs once: to see it run again, the finished one goes first.
if k get evaluation hello >/dev/null 2>&1; then k delete evaluation hello --timeout=120s >/dev/null; fi
say "\$ kubectl apply -f deploy/samples/hello.yaml"
k apply -f "$sample"
if ! k wait --for=condition=Finished evaluation/hello --timeout=120s; then
  k describe evaluation hello | sed 's/^/    /' >&2
  die "the sample evaluation did not finish within 120 s; above is what is known of it"
fi
echo
k get evaluation hello
cat <<END

  phase    $(field .status.phase)
  verdict  $(field .status.verdict.class): $(field .status.verdict.message)
  output   $(field .status.output.tail)

Next: export KUBECONFIG=$KUBECONFIG_FILE
      kubectl describe evaluation hello -n evals
      the API is at $("$REPO/deploy/local/url.sh"); \`make token\` prints a token for it, docs/api.md how to use it
      make status, make test, make down
END
[ "$(field .status.phase)" = Succeeded ] || die "the sample evaluation did not succeed"
