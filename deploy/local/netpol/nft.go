package netpol

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

const (
	tableName = "crucible_netpol"
	// Above kube-proxy's filter chains (0), below its address translation (-100).
	hookPriority = knftables.BaseChainPriority("-10")
)

// ruleset is the table's whole content: what one transaction puts in place.
type ruleset struct {
	base     []baseChain
	chains   map[string][]string // by name; the names of isolated gates' chains follow from their rules
	elements []*knftables.Element
}

type baseChain struct {
	name string
	hook knftables.BaseChainHook
}

var (
	verdictMaps = []*knftables.Map{
		{Name: "egress4", Type: "ipv4_addr : verdict"}, {Name: "egress6", Type: "ipv6_addr : verdict"},
		{Name: "ingress4", Type: "ipv4_addr : verdict"}, {Name: "ingress6", Type: "ipv6_addr : verdict"},
	}
	selfSets = []*knftables.Set{
		{Name: "self4", Type: "ipv4_addr . ipv4_addr"}, {Name: "self6", Type: "ipv6_addr . ipv6_addr"},
	}
)

// render decides the table's content. interfaces is the prefix of the names of
// the host's ends of the pods' interfaces.
func render(rules *Rules, interfaces string) *ruleset {
	pods := fmt.Sprintf("%q", interfaces+"*")
	const (
		established = "ct state established,related accept"
		midStream   = "tcp flags & (fin | syn | rst | ack) != syn drop"
	)
	out := &ruleset{
		base: []baseChain{{"forward", knftables.ForwardHook}, {"input", knftables.InputHook}, {"output", knftables.OutputHook}},
		chains: map[string][]string{
			"forward": {
				established,
				"ip saddr . ip daddr @self4 accept",
				"ip6 saddr . ip6 daddr @self6 accept",
				"goto from_pod",
			},
			"input": {
				// With CNI ptp the gateway address is in the pod network: the node may talk to itself.
				`iifname "lo" accept`,
				established,
				// IPv6 has no ARP; a hop limit of 255 cannot come from beyond the link.
				"icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
				"goto from_pod",
			},
			// Only so that the node's end of a cut connection cannot resume it.
			"output": {established, "oifname " + pods + " " + midStream},
			"from_pod": slices.Concat([]string{
				"iifname " + pods + " " + midStream,
				"iifname " + pods + " fib saddr . iif oif missing counter drop",
				"ip saddr vmap @egress4",
				"ip6 saddr vmap @egress6",
				"iifname " + pods + " counter drop",
			}, dropUnknown("saddr", rules.PodCIDRs), []string{"goto to_pod"}),
			"to_pod": slices.Concat([]string{
				"fib daddr type { local, broadcast, multicast } accept", // the node itself
				"oifname " + pods + " " + midStream,
				"ip daddr vmap @ingress4",
				"ip6 daddr vmap @ingress6",
				"oifname " + pods + " counter drop",
			}, dropUnknown("daddr", rules.PodCIDRs), []string{"accept"}),
		},
	}
	out.gates("egress", "daddr", "goto to_pod", rules.Egress)
	out.gates("ingress", "saddr", "accept", rules.Ingress)
	for _, a := range addressesOf(rules.Egress) {
		out.elements = append(out.elements, &knftables.Element{Set: "self" + digit(a), Key: []string{a.String(), a.String()}})
	}
	return out
}

// gates adds one direction. pass is the verdict that lets a packet on; whatever
// does not reach it, for want of an element or of a chain's rules, ends at a drop.
// It does happen: for an instant after a commit the kernel finds the new elements
// but still walks the old rules, and a chain that is new has none.
func (s *ruleset) gates(direction, peerField, pass string, gates map[netip.Addr]*Gate) {
	for _, a := range addressesOf(gates) {
		verdict := pass
		if gates[a].Isolated {
			rules := isolated(peerField, pass, gates[a].Allow)
			name := fmt.Sprintf("%s_%.6x", direction, sha256.Sum256([]byte(strings.Join(rules, "\n"))))
			s.chains[name] = rules
			verdict = "jump " + name
		}
		s.elements = append(s.elements, &knftables.Element{
			Map: direction + digit(a), Key: []string{a.String()}, Value: []string{verdict},
		})
	}
}

func isolated(peerField, pass string, allows []Allow) []string {
	var out []string
	for _, allow := range allows {
		peers := []string{""}
		if !allow.AnyPeer {
			peers = nil
			for _, v4 := range []bool{true, false} {
				if set := allow.Peers.family(v4); len(set) > 0 {
					peers = append(peers, fmt.Sprintf("%s %s %s ", family(v4), peerField, set.expression()))
				}
			}
		}
		for _, peer := range peers {
			for _, port := range portMatches(allow) {
				if rule := peer + port + pass; !slices.Contains(out, rule) {
					out = append(out, rule)
				}
			}
		}
	}
	return append(out, "counter drop")
}

func portMatches(allow Allow) []string {
	if allow.AnyPort {
		return []string{""}
	}
	var out []string
	for i := 0; i < len(allow.Ports); { // sorted by protocol
		protocol := allow.Ports[i].Protocol
		var ports []string
		whole := false
		for ; i < len(allow.Ports) && allow.Ports[i].Protocol == protocol; i++ {
			p := allow.Ports[i]
			whole = whole || p.First == 0 && p.Last == 65535
			ports = append(ports, fmt.Sprintf("%d-%d", p.First, p.Last))
		}
		name := strings.ToLower(string(protocol))
		if whole {
			out = append(out, "meta l4proto "+name+" ")
		} else {
			out = append(out, fmt.Sprintf("%s dport { %s } ", name, strings.Join(ports, ", ")))
		}
	}
	return out
}

func dropUnknown(field string, cidrs []netip.Prefix) []string {
	var out []string
	for _, c := range cidrs {
		out = append(out, fmt.Sprintf("%s %s %s counter drop", family(c.Addr().Is4()), field, c.Masked()))
	}
	return out
}

// transaction replaces whatever the table holds, in one step. Base chains are
// refilled, never deleted: between deleting and adding one a packet could slip through.
func (s *ruleset) transaction(ctx context.Context, nft knftables.Interface) (*knftables.Transaction, error) {
	present, err := nft.List(ctx, "chains")
	if err != nil {
		return nil, err
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{})
	for _, m := range verdictMaps {
		tx.Add(m)
		tx.Flush(m)
	}
	for _, set := range selfSets {
		tx.Add(set)
		tx.Flush(set)
	}
	for _, b := range s.base {
		tx.Add(&knftables.Chain{
			Name: b.name, Type: knftables.PtrTo(knftables.FilterType), Hook: &b.hook, Priority: knftables.PtrTo(hookPriority),
		})
	}
	names := make([]string, 0, len(s.chains))
	for name := range s.chains {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names { // all of them before the rules that lead to them
		if !slices.ContainsFunc(s.base, func(b baseChain) bool { return b.name == name }) {
			tx.Add(&knftables.Chain{Name: name})
		}
		tx.Flush(&knftables.Chain{Name: name})
	}
	for _, name := range names {
		for _, rule := range s.chains[name] {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule})
		}
	}
	for _, e := range s.elements {
		tx.Add(e)
	}
	for _, name := range present {
		if _, wanted := s.chains[name]; !wanted {
			tx.Flush(&knftables.Chain{Name: name})
			tx.Delete(&knftables.Chain{Name: name})
		}
	}
	return tx, nil
}

func (s *ruleset) apply(ctx context.Context, nft knftables.Interface) error {
	tx, err := s.transaction(ctx, nft)
	if err != nil {
		return err
	}
	return nft.Run(ctx, tx)
}

func addressesOf(gates map[netip.Addr]*Gate) []netip.Addr {
	out := make([]netip.Addr, 0, len(gates))
	for a := range gates {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func family(v4 bool) string {
	if v4 {
		return "ip"
	}
	return "ip6"
}

func digit(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}
