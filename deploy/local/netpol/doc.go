// Package netpol enforces networking.k8s.io/v1 NetworkPolicy on the single node
// of the native development cluster, where no packaged engine can be had. It is
// a development aid, not part of the product.
//
// Policies, pods and namespaces are compiled by a pure function (Compile) into
// Rules: for every pod address one egress and one ingress gate. Rules are
// rendered into one nftables table, inet crucible_netpol, whose content is always
// replaced in a single transaction. It is built so that a lookup that misses is a drop:
//
//   - A pod address that the engine has not programmed yet may neither send nor
//     receive, so a starting pod has no window. The table is put in place closed
//     before the first list from the API server arrives. It stays when the engine
//     ends, and a restarted engine replaces it in one step.
//   - What a pod's interface sends must carry an address that is routed to that
//     very interface. Link-local IPv6 source addresses are thereby closed to every pod
//     (neighbour discovery apart): no policy could name them.
//   - An address that two running pods claim belongs to neither until one is gone.
//
// Semantics that Kubernetes leaves to the engine:
//
//   - Egress is judged after kube-proxy's address translation, by the address and
//     port of the endpoint.
//   - The node always reaches its pods. Pods reach the node only as their egress
//     policies allow: an isolated pod reaches neither kubelet nor API server.
//   - Host-network pods are the node: policies neither select them nor match them as peers.
//   - A named port in an egress rule means the port of that name on each pod that
//     the rule's peers include; it matches nothing outside the cluster.
//   - Connections that the new rules do not allow are cut: their conntrack entries are
//     deleted, and TCP that is not established must begin with SYN, so that neither
//     end can resume. UDP and SCTP stop in the direction that is denied.
//     A reply to what the node or an allowed peer sends is always let through.
//   - ICMP and other protocols pass only rules without ports.
package netpol
