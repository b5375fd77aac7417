# shellcheck shell=bash disable=SC2034
# Every version, address and path of the local cluster: read by all scripts here.

KUBERNETES_VERSION=v1.34.4          # also in go.mod
NODE_VERSION=$(<"$REPO/.nvmrc")

CACHE=${CRUCIBLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/crucible}   # kept by `make down`
WORK=$REPO/.crucible                # kubeconfig and logs of this work tree
LOGS=$WORK/logs
KUBECONFIG_FILE=$WORK/kubeconfig

# The native cluster: one per machine, so its state is not in the work tree.
STATE=/var/lib/crucible
RUN=/run/crucible
NODE_NAME=crucible
NODE_IP=10.250.0.1                  # on an interface of its own: nothing listens on the machine's uplink
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
TEST_INTERNET=198.51.100.2           # tests play the internet there, in a network namespace
INTERFACE=crucible0                 # test interfaces share this prefix
CGROUP=crucible
