# shellcheck shell=bash
# Certificates and kubeconfigs of the native cluster, made once per cluster.

pki_up() {
  local dir=$STATE/pki
  [ -f "$dir/done" ] && return
  rm -rf "$dir"
  mkdir -p "$dir"
  chmod 700 "$dir"
  cd "$dir"
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -subj "/CN=crucible-local" -days 365 -out ca.crt
  openssl genrsa -out service-accounts.key 2048
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub
  certificate etcd "/CN=etcd" "IP:127.0.0.1,DNS:localhost"
  certificate apiserver "/CN=kube-apiserver" "IP:$NODE_IP,IP:$API_SERVICE_IP,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate kubelet-server "/CN=$NODE_NAME" "IP:$NODE_IP,DNS:$NODE_NAME"
  certificate etcd-client "/CN=kube-apiserver"
  certificate kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
  certificate admin "/O=system:masters/CN=admin"
  certificate controller-manager "/CN=system:kube-controller-manager"
  certificate scheduler "/CN=system:kube-scheduler"
  certificate proxy "/CN=system:kube-proxy"
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE_NAME"
  certificate netpol "/CN=crucible-local:netpol"
  certificate storageclass "/CN=crucible-local:storageclass"
  local user
  for user in admin controller-manager scheduler proxy kubelet netpol storageclass; do write_kubeconfig "$user" "$dir/$user.kubeconfig"; done
  touch "$dir/done"
}

# certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
certificate() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  {
    echo "keyUsage=critical,digitalSignature,keyEncipherment"
    echo "extendedKeyUsage=serverAuth,clientAuth"
    [ -z "${3:-}" ] || echo "subjectAltName=$3"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt"
  rm "$1.csr" "$1.ext"
}

write_kubeconfig() {
  cat >"$2" <<END
apiVersion: v1
kind: Config
clusters:
  - name: crucible-local
    cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
  - name: $1
    user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
contexts:
  - name: crucible-local
    context: {cluster: crucible-local, user: $1}
current-context: crucible-local
END
  chmod 600 "$2"
}
