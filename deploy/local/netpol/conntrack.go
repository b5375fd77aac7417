package netpol

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// cutConnections forgets every tracked connection that the rules do not allow
// (any more). It also keeps the connections of a pod that has ended from serving
// the next owner of its address.
func cutConnections(rules *Rules) (uint, error) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	filter := denied{rules: rules, node: map[netip.Addr]bool{}}
	for _, a := range own {
		if network, ok := a.(*net.IPNet); ok {
			filter.node[address(network.IP)] = true
		}
	}
	v4, err4 := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
	v6, err6 := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, filter)
	return v4 + v6, errors.Join(err4, err6)
}

type denied struct {
	rules *Rules
	node  map[netip.Addr]bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter. The reply's source
// is the destination after address translation.
func (d denied) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	packet := Packet{
		Src: address(flow.Forward.SrcIP), Dst: address(flow.Reverse.SrcIP),
		Protocol: protocolNames[flow.Forward.Protocol], Port: flow.Reverse.SrcPort,
	}
	switch {
	case d.node[packet.Src]:
		return false
	case d.node[packet.Dst]:
		return !d.rules.MayLeave(packet)
	default:
		return !d.rules.MayForward(packet)
	}
}

var protocolNames = map[uint8]corev1.Protocol{
	unix.IPPROTO_TCP: corev1.ProtocolTCP, unix.IPPROTO_UDP: corev1.ProtocolUDP, unix.IPPROTO_SCTP: corev1.ProtocolSCTP,
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
