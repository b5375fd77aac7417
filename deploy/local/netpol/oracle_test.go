package netpol

import (
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// oracle answers one packet at a time straight from the API documentation of
// NetworkPolicy. It shares no code with Compile, not even label matching.
type oracle struct{ Snapshot }

func (o oracle) mayForward(p Packet) bool {
	return p.Src == p.Dst && len(o.podsAt(p.Src)) == 1 || o.mayLeave(p) && o.mayEnter(p)
}

func (o oracle) mayLeave(p Packet) bool {
	return o.judge(p.Src, networkingv1.PolicyTypeEgress, func(self *corev1.Pod, policy *networkingv1.NetworkPolicy) bool {
		for _, rule := range policy.Spec.Egress {
			if o.peersMatch(policy.Namespace, rule.To, p.Dst) && portsMatch(rule.Ports, p, o.podsAt(p.Dst)) {
				return true
			}
		}
		return false
	})
}

func (o oracle) mayEnter(p Packet) bool {
	return o.judge(p.Dst, networkingv1.PolicyTypeIngress, func(self *corev1.Pod, policy *networkingv1.NetworkPolicy) bool {
		for _, rule := range policy.Spec.Ingress {
			if o.peersMatch(policy.Namespace, rule.From, p.Src) && portsMatch(rule.Ports, p, []*corev1.Pod{self}) {
				return true
			}
		}
		return false
	})
}

func (o oracle) judge(a netip.Addr, direction networkingv1.PolicyType, allows func(*corev1.Pod, *networkingv1.NetworkPolicy) bool) bool {
	here := o.podsAt(a)
	if len(here) == 0 {
		return !slices.ContainsFunc(o.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(a) })
	}
	if len(here) > 1 {
		return false
	}
	isolated := false
	for _, policy := range o.Policies {
		if policy.Namespace != here[0].Namespace || !selectorMatches(policy.Spec.PodSelector, here[0].Labels) {
			continue
		}
		types := policy.Spec.PolicyTypes
		if types == nil && (direction == networkingv1.PolicyTypeIngress || len(policy.Spec.Egress) > 0) {
			types = []networkingv1.PolicyType{direction}
		}
		if !slices.Contains(types, direction) {
			continue
		}
		isolated = true
		if allows(here[0], policy) {
			return true
		}
	}
	return !isolated
}

func (o oracle) podsAt(a netip.Addr) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range o.Pods {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if net.ParseIP(ip.IP).Equal(net.IP(a.AsSlice())) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (o oracle) peersMatch(namespace string, peers []networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if cidrContains(peer.IPBlock.CIDR, a) && !slices.ContainsFunc(peer.IPBlock.Except, func(e string) bool { return cidrContains(e, a) }) {
				return true
			}
			continue
		}
		for _, p := range o.podsAt(a) {
			inNamespace := p.Namespace == namespace
			if peer.NamespaceSelector != nil {
				i := slices.IndexFunc(o.Namespaces, func(n *corev1.Namespace) bool { return n.Name == p.Namespace })
				inNamespace = i >= 0 && selectorMatches(*peer.NamespaceSelector, o.Namespaces[i].Labels)
			}
			if inNamespace && (peer.PodSelector == nil || selectorMatches(*peer.PodSelector, p.Labels)) {
				return true
			}
		}
	}
	return len(peers) == 0
}

func cidrContains(cidr string, a netip.Addr) bool {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err)
	}
	return network.Contains(net.IP(a.AsSlice()))
}

func portsMatch(ports []networkingv1.NetworkPolicyPort, p Packet, receivers []*corev1.Pod) bool {
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		if protocol != p.Protocol {
			continue
		}
		switch {
		case port.Port == nil:
			return true
		case port.Port.Type == intstr.Int:
			last := port.Port.IntVal
			if port.EndPort != nil {
				last = *port.EndPort
			}
			if int32(p.Port) >= port.Port.IntVal && int32(p.Port) <= last {
				return true
			}
		default:
			for _, pod := range receivers {
				for _, c := range pod.Spec.Containers {
					for _, named := range c.Ports {
						if named.Name == port.Port.StrVal && named.Protocol == protocol && named.ContainerPort == int32(p.Port) {
							return true
						}
					}
				}
			}
		}
	}
	return len(ports) == 0
}

func selectorMatches(s metav1.LabelSelector, labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if has, ok := labels[key]; !ok || has != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		in := has && slices.Contains(e.Values, value)
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			if !in {
				return false
			}
		case metav1.LabelSelectorOpNotIn:
			if in {
				return false
			}
		case metav1.LabelSelectorOpExists:
			if !has {
				return false
			}
		case metav1.LabelSelectorOpDoesNotExist:
			if has {
				return false
			}
		}
	}
	return true
}
