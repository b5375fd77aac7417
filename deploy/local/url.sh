#!/usr/bin/env bash
# `make url`: where the API of the local cluster is, on standard output and nothing else there. What signed its
# certificate is left in .crucible/ca.crt, for `curl --cacert`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -e "$KUBECONFIG_FILE" ] || die "no cluster is up: \`make up\`"
k() { kube --request-timeout=10s -n crucible-system "$@"; }
port=$(k get service crucible-api -o 'jsonpath={.spec.ports[0].nodePort}') || die "the API is not installed: \`make up\`"
k get secret crucible-api-tls -o 'jsonpath={.data.ca\.crt}' | base64 -d >"$WORK/ca.crt.new"
mv "$WORK/ca.crt.new" "$WORK/ca.crt"
if [ -z "$port" ]; then
  die "the Service crucible-api has no node port: kubectl -n crucible-system port-forward service/crucible-api 8443:443, then https://127.0.0.1:8443"
fi
# The node's own address: kube-proxy serves no node ports on loopback.
address=$(k get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
echo "https://$address:$port"
