package netpol

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Rules say for every pod address what may leave and what may enter. An address
// of the pod networks that is in neither map is unknown and closed.
type Rules struct {
	PodCIDRs []netip.Prefix
	Egress   map[netip.Addr]*Gate
	Ingress  map[netip.Addr]*Gate
	// Problems are inputs that could not be understood and were taken in the closed sense.
	Problems []string
}

// Gate is one direction of one pod. Not isolated, it lets everything through.
type Gate struct {
	Isolated bool
	Allow    []Allow
}

// Allow lets a packet through when its peer and its port both match.
type Allow struct {
	AnyPeer bool
	Peers   addressSet
	AnyPort bool
	Ports   []PortRange
}

// PortRange includes both ends; 0-65535 stands for the whole protocol.
type PortRange struct {
	Protocol    corev1.Protocol
	First, Last uint16
}

// Packet is the first packet of a connection, after address translation. The
// protocol is empty for anything but TCP, UDP and SCTP.
type Packet struct {
	Src, Dst netip.Addr
	Protocol corev1.Protocol
	Port     uint16
}

// MayForward judges what is routed through the node.
func (r *Rules) MayForward(p Packet) bool {
	if _, known := r.Egress[p.Src]; known && p.Src == p.Dst {
		return true // a pod cannot be blocked from itself, here through a service
	}
	return r.MayLeave(p) && r.mayEnter(p)
}

// MayLeave judges by the sender's side alone: this is all that counts towards the node.
func (r *Rules) MayLeave(p Packet) bool { return r.passes(r.Egress, p.Src, p.Dst, p) }

func (r *Rules) mayEnter(p Packet) bool { return r.passes(r.Ingress, p.Dst, p.Src, p) }

func (r *Rules) passes(gates map[netip.Addr]*Gate, pod, peer netip.Addr, p Packet) bool {
	gate, known := gates[pod]
	if !known {
		return !slices.ContainsFunc(r.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(pod) })
	}
	return !gate.Isolated || slices.ContainsFunc(gate.Allow, func(a Allow) bool { return a.matches(peer, p) })
}

func (a Allow) matches(peer netip.Addr, p Packet) bool {
	if !a.AnyPeer && !a.Peers.contains(peer) {
		return false
	}
	return a.AnyPort || slices.ContainsFunc(a.Ports, func(r PortRange) bool {
		return r.Protocol == p.Protocol && r.First <= p.Port && p.Port <= r.Last
	})
}
