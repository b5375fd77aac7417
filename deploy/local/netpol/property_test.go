package netpol

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// seed is random, printed, and repeated with NETPOL_TEST_SEED.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("NETPOL_TEST_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("NETPOL_TEST_SEED is not a number: %v", err)
		}
	}
	fmt.Printf("%s: NETPOL_TEST_SEED=%d\n", t.Name(), s)
	return s
}

func TestCompiledRulesAgreeWithTheOracle(t *testing.T) {
	const snapshots, packets = 1500, 300
	random := generator{rand.New(rand.NewPCG(seed(t), 0))}
	allowed := 0
	for range snapshots {
		s := random.snapshot()
		rules := Compile(s)
		if len(rules.Problems) > 0 && !contested(s) {
			t.Fatalf("valid input was not understood: %v", rules.Problems)
		}
		for range packets {
			p := random.packet(s)
			if got, want := rules.MayForward(p), (oracle{s}).mayForward(p); got != want {
				t.Fatalf("forward %+v: rules say %v, the oracle %v, with\n%s", p, got, want, describe(s))
			} else if got {
				allowed++
			}
			if got, want := rules.MayLeave(p), (oracle{s}).mayLeave(p); got != want {
				t.Fatalf("to the node %+v: rules say %v, the oracle %v, with\n%s", p, got, want, describe(s))
			}
		}
	}
	// A generator that drifts to all-or-nothing would test nothing.
	if share := float64(allowed) / (snapshots * packets); share < 0.05 || share > 0.95 {
		t.Fatalf("%.2f of all packets are allowed: the generator has lost its balance", share)
	}
}

func contested(s Snapshot) bool {
	for _, p := range s.Pods {
		for _, ip := range p.Status.PodIPs {
			if len((oracle{s}).podsAt(netip.MustParseAddr(ip.IP))) > 1 {
				return true
			}
		}
	}
	return false
}

func describe(s Snapshot) string {
	text, _ := yaml.Marshal(s)
	return string(text)
}

type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) labels() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"app", "tier"} {
		if g.chance(70) {
			out[key] = pick(g, "a", "b", "c")
		}
	}
	return out
}

func (g generator) snapshot() Snapshot {
	s := Snapshot{PodCIDRs: testCIDRs}
	names := []string{"one", "two", "three"}
	for _, name := range names {
		if g.chance(95) { // else: not seen yet
			s.Namespaces = append(s.Namespaces, namespace(name, g.labels()))
		}
	}
	for i := range 8 {
		host := i
		if g.chance(3) {
			host = (i + 1) % 8 // two pods, one address
		}
		p := newPod(pick(g, names...), fmt.Sprintf("p%d", i), fmt.Sprintf("10.244.0.%d", host), fmt.Sprintf("fd00:10:244::%x", host))
		p.Labels = g.labels()
		p.port("http", corev1.ProtocolTCP, pick[int32](g, 8080, 9090)).port("dns", corev1.ProtocolUDP, pick[int32](g, 8080, 53))
		if g.chance(8) {
			p.phase(pick(g, corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending))
		}
		if g.chance(5) {
			p.hostNetwork()
		}
		s.Pods = append(s.Pods, p.Pod)
	}
	for i := range g.IntN(6) {
		s.Policies = append(s.Policies, g.policy(pick(g, names...), fmt.Sprintf("np%d", i)))
	}
	return s
}

func (g generator) policy(namespace, name string) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.PodSelector = *g.selector()
	p.Spec.PolicyTypes = pick(g, nil, []networkingv1.PolicyType{"Ingress"}, []networkingv1.PolicyType{"Egress"}, []networkingv1.PolicyType{"Ingress", "Egress"})
	for range g.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: g.peers(), Ports: g.ports()})
	}
	for range g.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: g.peers(), Ports: g.ports()})
	}
	return p
}

func (g generator) selector() *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if g.chance(40) {
		s.MatchLabels = map[string]string{pick(g, "app", "tier"): pick(g, "a", "b", "c")}
	}
	if g.chance(30) {
		e := metav1.LabelSelectorRequirement{Key: pick(g, "app", "tier"), Operator: pick(g,
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = pick(g, []string{"a"}, []string{"a", "b"})
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (g generator) peers() []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for range g.IntN(4) {
		switch g.IntN(4) {
		case 0:
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: g.selector()})
		case 1:
			out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: g.selector()})
		case 2:
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: g.selector(), NamespaceSelector: g.selector()})
		default:
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: g.block()})
		}
	}
	return out
}

func (g generator) block() *networkingv1.IPBlock {
	block := pick(g,
		networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.244.0.0/16"}},
		networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"0.0.0.0/1", "198.51.100.0/30", "255.255.255.255/32"}},
		networkingv1.IPBlock{CIDR: "0.0.0.0/0"},
		networkingv1.IPBlock{CIDR: "10.244.0.0/24", Except: []string{"10.244.0.2/31", "10.244.0.4/32", "10.244.0.2/32"}},
		networkingv1.IPBlock{CIDR: "10.244.0.4/30"},
		networkingv1.IPBlock{CIDR: "198.51.100.0/24", Except: []string{"198.51.100.0/25"}},
		networkingv1.IPBlock{CIDR: "::/0", Except: []string{"fd00:10:244::/126"}},
		networkingv1.IPBlock{CIDR: "fd00:10:244::3/128"},
		networkingv1.IPBlock{CIDR: "2001:db8::/32"},
	)
	return &block
}

func (g generator) ports() []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for range g.IntN(4) {
		port := networkingv1.NetworkPolicyPort{}
		if g.chance(70) {
			protocol := pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			port.Protocol = &protocol
		}
		switch g.IntN(4) {
		case 0:
			name := intstr.FromString(pick(g, "http", "dns", "none"))
			port.Port = &name
		case 1:
			number := intstr.FromInt32(pick[int32](g, 53, 8080, 9090, 65535))
			port.Port = &number
		case 2:
			number, end := intstr.FromInt32(pick[int32](g, 1, 53, 8080)), pick[int32](g, 8080, 9089, 65535)
			port.Port, port.EndPort = &number, &end
		}
		out = append(out, port)
	}
	return out
}

func (g generator) packet(s Snapshot) Packet {
	hosts := []string{"10.244.0.%d", "fd00:10:244::%x"}
	family := g.IntN(2)
	address := func() netip.Addr {
		if g.chance(20) {
			return netip.MustParseAddr(pick(g, [][]string{{"198.51.100.2", "198.51.100.200", "255.255.255.255"}, {"2001:db8::1", "::1", "ff02::1"}}[family]...))
		}
		return netip.MustParseAddr(fmt.Sprintf(hosts[family], g.IntN(9))) // the ninth is nobody's
	}
	return Packet{
		Src: address(), Dst: address(),
		Protocol: pick(g, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, ""),
		Port:     pick[uint16](g, 1, 53, 54, 8080, 9089, 9090, 65535),
	}
}
