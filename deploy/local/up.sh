#!/usr/bin/env bash
# `make up`: a cluster, Crucible in it by its own Helm chart, and one evaluation run to its end.
#   up.sh            all of it
#   up.sh --cluster  the cluster and Crucible, without the evaluation (what tests need)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
LOCAL=$REPO/deploy/local
# A cluster that is up stays the one; otherwise the first that applies.
kind=$(cat "$WORK/kind" 2>/dev/null || cluster_kind)
[ -z "${CLUSTER:-}" ] || [ "$CLUSTER" = "$kind" ] || die "a $kind cluster is up from here: \`make down\` first, then choose CLUSTER=$CLUSTER"
mkdir -p "$WORK" "$LOGS" "$CACHE"
say "Cluster: $kind. Logs: .crucible/logs. Build cache: $CACHE"

"$LOCAL/node.sh"
case $kind in
  native) "$LOCAL/native/start.sh" ;;
  kind) "$LOCAL/kind/start.sh" ;;
  existing)
    command -v kubectl >/dev/null || die "kubectl is missing: install it"
    command -v helm >/dev/null || die "helm is missing: install Helm 3"
    if [ -n "${KUBECONFIG:-}" ] && ! [ "$KUBECONFIG" -ef "$KUBECONFIG_FILE" ]; then
      cp "$KUBECONFIG" "$KUBECONFIG_FILE.new" && chmod 600 "$KUBECONFIG_FILE.new" && mv "$KUBECONFIG_FILE.new" "$KUBECONFIG_FILE"
    fi
    step "Reach the cluster" kubectl --kubeconfig "$KUBECONFIG_FILE" version ;;
esac
echo "$kind" >"$WORK/kind"

values=()
if [ "$kind" != existing ]; then
  images=()
  [ "$kind" = kind ] || images=(CRUCIBLE_ENGINE=buildah)
  say "Images …"
  env "${images[@]}" "$REPO/deploy/docker/build.sh" --log-dir "$LOGS" --out "$WORK" || die "the images could not be built (see above)"
  # shellcheck source=/dev/null
  source "$WORK/images.env"
  step "Load images into the node" "$LOCAL/$kind/load-images.sh"
  values+=(--values "$WORK/images.json" --values "$LOCAL/values.yaml")
  [ ! -f "$LOCAL/$kind/values.yaml" ] || values+=(--values "$LOCAL/$kind/values.yaml")
fi
# CLUSTER=existing: your images and settings, as Helm values.
[ -z "${VALUES:-}" ] || values+=(--values "$VALUES")

install() {
  # Helm installs CRDs but never upgrades them.
  kubectl --kubeconfig "$KUBECONFIG_FILE" apply --server-side --force-conflicts -f "$REPO/charts/crucible/crds"
  kubectl --kubeconfig "$KUBECONFIG_FILE" wait --for=condition=Established --timeout=30s -f "$REPO/charts/crucible/crds"
  helm --kubeconfig "$KUBECONFIG_FILE" upgrade --install crucible "$REPO/charts/crucible" \
    --namespace crucible-system --create-namespace "${values[@]}" --wait --timeout 5m
  # Helm cannot label the namespace it creates. Crucible's own pods meet the strictest level.
  kubectl --kubeconfig "$KUBECONFIG_FILE" label --overwrite namespace crucible-system pod-security.kubernetes.io/enforce=restricted
}
step "Install Crucible with Helm" install
[ "${1:-}" != --cluster ] || exit 0

"$LOCAL/hello.sh"
