package netpol

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"
)

// Snapshot is everything that the rules depend on.
type Snapshot struct {
	PodCIDRs   []netip.Prefix
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Policies   []*networkingv1.NetworkPolicy
}

type compiler struct {
	pods       []pod
	namespaces map[string]labels.Set
	problems   []string
}

// pod is a running pod with an address of its own.
type pod struct {
	*corev1.Pod
	addresses []netip.Addr
}

// policy is a NetworkPolicy with its selectors resolved to addresses.
type policy struct {
	namespace                   string
	selects                     labels.Selector
	isolatesEgress, isolatesIng bool
	egress                      []Allow // the same for every pod that the policy selects
	ingress                     []rule  // named ports still depend on the selected pod
}

type rule struct {
	anyPeer bool
	peers   addressSet
	ports   []networkingv1.NetworkPolicyPort
}

// Compile is pure: the same snapshot gives the same rules.
func Compile(s Snapshot) *Rules {
	c := &compiler{namespaces: map[string]labels.Set{}}
	for _, n := range s.Namespaces {
		c.namespaces[n.Name] = labels.Set(n.Labels)
	}
	for _, p := range s.Pods {
		if addresses := liveAddresses(p); len(addresses) > 0 {
			c.pods = append(c.pods, pod{p, addresses})
		}
	}
	slices.SortFunc(c.pods, func(a, b pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	policies := make([]policy, 0, len(s.Policies))
	for _, p := range sorted(s.Policies) {
		policies = append(policies, c.policy(p))
	}
	rules := &Rules{PodCIDRs: s.PodCIDRs, Egress: map[netip.Addr]*Gate{}, Ingress: map[netip.Addr]*Gate{}}
	owners := map[netip.Addr][]string{}
	for _, p := range c.pods {
		egress, ingress := gates(p, policies)
		for _, a := range p.addresses {
			rules.Egress[a], rules.Ingress[a] = egress, ingress
			if owners[a] = append(owners[a], p.Namespace+"/"+p.Name); len(owners[a]) > 1 {
				c.problem("address %s stays closed: the running pods %s all claim it", a, strings.Join(owners[a], ", "))
			}
		}
	}
	for a, pods := range owners {
		if len(pods) > 1 {
			delete(rules.Egress, a)
			delete(rules.Ingress, a)
		}
	}
	rules.Problems = c.problems
	return rules
}

func gates(p pod, policies []policy) (egress, ingress *Gate) {
	egress, ingress = &Gate{}, &Gate{}
	for _, policy := range policies {
		if policy.namespace != p.Namespace || !policy.selects.Matches(labels.Set(p.Labels)) {
			continue
		}
		if policy.isolatesEgress {
			egress.Isolated = true
			egress.Allow = append(egress.Allow, policy.egress...)
		}
		if policy.isolatesIng {
			ingress.Isolated = true
			for _, r := range policy.ingress {
				ingress.Allow = append(ingress.Allow, r.into(p)...)
			}
		}
	}
	return egress, ingress
}

// liveAddresses is empty for host-network pods, which are the node, and for pods
// that have ended, whose addresses may be somebody else's already.
func liveAddresses(p *corev1.Pod) []netip.Addr {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	var out []netip.Addr
	for _, ip := range append([]corev1.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
		if a, err := netip.ParseAddr(ip.IP); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func (c *compiler) policy(p *networkingv1.NetworkPolicy) policy {
	at := p.Namespace + "/" + p.Name
	out := policy{namespace: p.Namespace, selects: labels.Everything()}
	// A selector that cannot be read isolates the whole namespace rather than nothing.
	if selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector); err != nil {
		c.problem("policy %s: podSelector: %v", at, err)
	} else {
		out.selects = selector
	}
	types := p.Spec.PolicyTypes
	if len(types) == 0 { // the API server fills this in; the same defaults, for objects that never met it
		types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			types = append(types, networkingv1.PolicyTypeEgress)
		}
	}
	out.isolatesIng = slices.Contains(types, networkingv1.PolicyTypeIngress)
	out.isolatesEgress = slices.Contains(types, networkingv1.PolicyTypeEgress)
	for _, r := range p.Spec.Ingress {
		out.ingress = append(out.ingress, c.rule(at, p.Namespace, r.From, r.Ports))
	}
	for _, r := range p.Spec.Egress {
		out.egress = append(out.egress, c.rule(at, p.Namespace, r.To, r.Ports).outTo(c.pods)...)
	}
	return out
}

func (c *compiler) rule(at, namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) rule {
	if len(peers) == 0 {
		return rule{anyPeer: true, ports: ports}
	}
	var ranges []addressRange
	for _, peer := range peers {
		found, err := c.peer(namespace, peer)
		if err != nil {
			c.problem("policy %s: a peer is ignored: %v", at, err)
		}
		ranges = append(ranges, found...)
	}
	return rule{peers: newAddressSet(ranges), ports: ports}
}

func (c *compiler) peer(namespace string, peer networkingv1.NetworkPolicyPeer) ([]addressRange, error) {
	if peer.IPBlock != nil {
		return blockRanges(peer.IPBlock)
	}
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return nil, nil // the API refuses it; it names nobody
	}
	podSelector, namespaceSelector := labels.Everything(), labels.Selector(nil)
	var err error
	if peer.PodSelector != nil {
		if podSelector, err = metav1.LabelSelectorAsSelector(peer.PodSelector); err != nil {
			return nil, err
		}
	}
	if peer.NamespaceSelector != nil {
		if namespaceSelector, err = metav1.LabelSelectorAsSelector(peer.NamespaceSelector); err != nil {
			return nil, err
		}
	}
	var out []addressRange
	for _, p := range c.pods {
		if namespaceSelector == nil && p.Namespace != namespace {
			continue
		}
		if namespaceSelector != nil {
			// A namespace whose labels are not known yet must not match "does not have label x".
			if known, ok := c.namespaces[p.Namespace]; !ok || !namespaceSelector.Matches(known) {
				continue
			}
		}
		if podSelector.Matches(labels.Set(p.Labels)) {
			for _, a := range p.addresses {
				out = append(out, addressRange{a, a})
			}
		}
	}
	return out, nil
}

func blockRanges(block *networkingv1.IPBlock) ([]addressRange, error) {
	whole, err := parseCIDR(block.CIDR)
	if err != nil {
		return nil, err
	}
	var holes []addressRange
	for _, except := range block.Except {
		hole, err := parseCIDR(except)
		if err != nil {
			return nil, err
		}
		holes = append(holes, hole)
	}
	return whole.without(newAddressSet(holes)), nil
}

// parseCIDR also reads what old API servers admitted, such as leading zeros and host bits.
func parseCIDR(text string) (addressRange, error) {
	_, network, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return addressRange{}, err
	}
	prefix, err := netip.ParsePrefix(network.String())
	if err != nil {
		return addressRange{}, err
	}
	return rangeOf(prefix), nil
}

// into resolves the rule for an ingress gate: a named port is the receiving pod's.
func (r rule) into(p pod) []Allow {
	if len(r.ports) == 0 {
		return []Allow{{AnyPeer: r.anyPeer, Peers: r.peers, AnyPort: true}}
	}
	var ports []PortRange
	for _, port := range r.ports {
		if name, ok := portName(port); ok {
			ports = append(ports, namedPorts(p, name, protocolOf(port))...)
		} else {
			ports = append(ports, numericPort(port))
		}
	}
	return allowPorts(r.anyPeer, r.peers, ports)
}

// outTo resolves the rule for an egress gate: a named port is that of each pod it may lead to.
func (r rule) outTo(pods []pod) []Allow {
	if len(r.ports) == 0 {
		return []Allow{{AnyPeer: r.anyPeer, Peers: r.peers, AnyPort: true}}
	}
	var numeric []PortRange
	named := map[PortRange][]addressRange{}
	for _, port := range r.ports {
		name, ok := portName(port)
		if !ok {
			numeric = append(numeric, numericPort(port))
			continue
		}
		for _, p := range pods {
			for _, found := range namedPorts(p, name, protocolOf(port)) {
				for _, a := range p.addresses {
					if r.anyPeer || r.peers.contains(a) {
						named[found] = append(named[found], addressRange{a, a})
					}
				}
			}
		}
	}
	out := allowPorts(r.anyPeer, r.peers, numeric)
	found := make([]PortRange, 0, len(named))
	for port := range named {
		found = append(found, port)
	}
	slices.SortFunc(found, comparePorts)
	for _, port := range found {
		out = append(out, Allow{Peers: newAddressSet(named[port]), Ports: []PortRange{port}})
	}
	return out
}

func allowPorts(anyPeer bool, peers addressSet, ports []PortRange) []Allow {
	if len(ports) == 0 { // ports were asked for and none exists: nothing matches
		return nil
	}
	return []Allow{{AnyPeer: anyPeer, Peers: peers, Ports: mergePorts(ports)}}
}

func portName(port networkingv1.NetworkPolicyPort) (string, bool) {
	if port.Port == nil || port.Port.Type == intstr.Int {
		return "", false
	}
	return port.Port.StrVal, true
}

func numericPort(port networkingv1.NetworkPolicyPort) PortRange {
	out := PortRange{Protocol: protocolOf(port), First: 0, Last: 65535}
	if port.Port != nil {
		out.First = uint16(port.Port.IntVal)
		out.Last = out.First
		if port.EndPort != nil {
			out.Last = uint16(*port.EndPort)
		}
	}
	return out
}

func protocolOf(port networkingv1.NetworkPolicyPort) corev1.Protocol {
	if port.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *port.Protocol
}

func namedPorts(p pod, name string, protocol corev1.Protocol) []PortRange {
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c) // a sidecar serves as long as the pod runs
		}
	}
	var out []PortRange
	for _, c := range containers {
		for _, port := range c.Ports {
			if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
				out = append(out, PortRange{protocol, uint16(port.ContainerPort), uint16(port.ContainerPort)})
			}
		}
	}
	return out
}

func mergePorts(ports []PortRange) []PortRange {
	slices.SortFunc(ports, comparePorts)
	var out []PortRange
	for _, p := range ports {
		if n := len(out); n > 0 && out[n-1].Protocol == p.Protocol && int(p.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

func comparePorts(a, b PortRange) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}

func sorted(policies []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
	out := slices.Clone(policies)
	slices.SortFunc(out, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (c *compiler) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}
