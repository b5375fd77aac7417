package netpol

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The cast of the recipes. `web` and `db` live in default, `probe` in monitoring.
const (
	webIP, web6IP, dbIP, clientIP, probeIP, otherIP = "10.244.0.1", "fd00:10:244::1", "10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"
	worldIP, otherWorldIP, nodeIP, unknownIP        = "198.51.100.2", "203.0.113.9", "10.250.0.1", "10.244.0.77"
)

func cast() Snapshot {
	return Snapshot{
		PodCIDRs: testCIDRs,
		Namespaces: []*corev1.Namespace{
			namespace("default", map[string]string{"purpose": "production"}),
			namespace("monitoring", map[string]string{"team": "operations"}),
			namespace("other", nil),
		},
		Pods: pods(
			newPod("default", "web", webIP, web6IP).label("app", "web").port("http", corev1.ProtocolTCP, 80).port("stats", corev1.ProtocolTCP, 5000).port("http", corev1.ProtocolUDP, 443),
			newPod("default", "db", dbIP).label("app", "db").port("http", corev1.ProtocolTCP, 8080),
			newPod("default", "client", clientIP).label("app", "client").label("role", "tester"),
			newPod("monitoring", "probe", probeIP).label("type", "monitoring"),
			newPod("other", "other", otherIP).label("app", "client"),
		),
	}
}

// Each line under want is "source > destination[:port[/protocol]] yes|no"; the port is 80/TCP unless given.
func TestDocumentedSemantics(t *testing.T) {
	tests := []struct {
		name     string
		policies map[string]string // namespace/name → spec
		change   func(*Snapshot)
		want     string
	}{
		{
			name: "without a policy everything passes, but unknown pod addresses are closed",
			want: `client > web yes; other > web yes; world > web yes; web > world yes; web > node yes
			       unknown > web no; web > unknown no; unknown > world no; world > unknown no; unknown > node no; world > world yes`,
		},
		{
			name:     "deny all traffic to an application",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: []}`},
			want:     `client > web no; world > web no; other > web no; 2001:db8::99 > web6 no; client > db yes; web > client yes; web > world yes; web > web yes`,
		},
		{
			name:     "limit traffic to an application",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`},
			want:     `client > web yes; client > web:9999/UDP yes; client > web:0/ICMP yes; db > web no; other > web no; probe > web no; world > web no; node > web no`,
		},
		{
			name:     "deny all non-listed traffic to a namespace",
			policies: map[string]string{"default/p": `{podSelector: {}, policyTypes: [Ingress], ingress: []}`},
			want:     `client > web no; other > db no; web > other yes; client > probe yes`,
		},
		{
			name:     "deny traffic from other namespaces",
			policies: map[string]string{"default/p": `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`},
			want:     `client > web yes; db > client yes; other > web no; world > web no`,
		},
		{
			name:     "allow traffic from all namespaces, pods only",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {}}]}]}`},
			want:     `client > web yes; other > web yes; probe > web yes; world > web no`,
		},
		{
			name:     "allow all traffic by an empty rule",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{}]}`},
			want:     `other > web yes; world > web yes; world > web:7/UDP yes; unknown > web no`,
		},
		{
			name:     "an empty from list is everyone, on the given port",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [], ports: [{port: 80}]}]}`},
			want:     `other > web yes; world > web yes; world > web:81 no; world > web:80/UDP no`,
		},
		{
			name:     "an empty ports list is every port, from the given peers",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [], from: [{podSelector: {}}]}]}`},
			want:     `client > web:1 yes; client > web:0/ICMP yes; other > web:1 no`,
		},
		{
			name:     "allow a namespace",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: operations}}}]}]}`},
			want:     `probe > web yes; client > web no; other > web no`,
		},
		{
			name: "namespaceSelector and podSelector in one peer: both",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [
				{namespaceSelector: {matchLabels: {team: operations}}, podSelector: {matchLabels: {type: monitoring}}}]}]}`},
			change: func(s *Snapshot) {
				s.Pods = append(s.Pods, pods(newPod("monitoring", "stranger", "10.244.0.9"), newPod("default", "imitator", "10.244.0.8").label("type", "monitoring"))...)
			},
			want: `probe > web yes; 10.244.0.9 > web no; 10.244.0.8 > web no`,
		},
		{
			name: "namespaceSelector and podSelector in two peers: either",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [
				{namespaceSelector: {matchLabels: {team: operations}}}, {podSelector: {matchLabels: {role: tester}}}]}]}`},
			want: `probe > web yes; client > web yes; db > web no; other > web no`,
		},
		{
			name:     "the label kubernetes.io/metadata.name and expressions",
			policies: map[string]string{"default/p": `{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]}`},
			want:     `client > web yes; other > db yes; probe > web no; probe > client yes`,
		},
		{
			name:     "a namespace that is not known yet matches nothing, not even the absence of a label",
			policies: map[string]string{"default/p": `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]}`},
			change:   func(s *Snapshot) { s.Namespaces = s.Namespaces[:2] },
			want:     `other > web no; client > web yes`,
		},
		{
			name: "allow only one port; policies add up",
			policies: map[string]string{
				"default/a": `{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 5000}], from: [{podSelector: {matchLabels: {app: db}}}]}]}`,
				"default/b": `{podSelector: {}, ingress: [{ports: [{port: 80}], from: [{podSelector: {matchLabels: {role: tester}}}]}]}`,
			},
			want: `db > web:5000 yes; db > web:80 no; client > web:80 yes; client > web:5000 no; client > db:80 yes; web > db:5000 no`,
		},
		{
			name:     "a named port is the receiving pod's, by name and protocol",
			policies: map[string]string{"default/p": `{podSelector: {}, ingress: [{ports: [{port: http}]}]}`},
			want:     `client > web:80 yes; client > web:8080 no; client > db:8080 yes; client > db:80 no; client > web:443/UDP no; db > client:80 no`,
		},
		{
			name:     "a named port of an egress rule is that of each pod the peers include",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: client}}, egress: [{to: [{podSelector: {}}], ports: [{port: http}, {port: http, protocol: UDP}]}], policyTypes: [Egress]}`},
			want:     `client > web:80 yes; client > web:8080 no; client > db:8080 yes; client > db:80 no; client > web:443/UDP yes; client > web:80/UDP no; client > world:80 no`,
		},
		{
			name:     "a named port that no pod has allows nothing",
			policies: map[string]string{"default/p": `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: none}]}], egress: [{ports: [{port: none}]}]}`},
			want:     `client > web no; web > world no; world > web no; client > web:0/ICMP no`,
		},
		{
			name:     "endPort and protocols",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 1000, endPort: 1010}, {port: 53, protocol: UDP}, {protocol: SCTP}]}]}`},
			want:     `db > web:999 no; db > web:1000 yes; db > web:1010 yes; db > web:1011 no; db > web:1005/UDP no; db > web:53/UDP yes; db > web:53 no; db > web:7/SCTP yes; db > web:0/ICMP no`,
		},
		{
			name:     "ipBlock with except, both families",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24, 10.0.0.0/8]}}, {ipBlock: {cidr: "2001:db8::/32"}}]}]}`},
			want:     `web > world yes; web > otherworld no; web > db no; web > node no; web6 > 2001:db8::5 yes; web6 > 2001:db9::5 no; web6 > fd00:10:244::9 no`,
		},
		{
			name:     "ipBlock admits a pod by its address as well",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.2/31}}]}]}`},
			want:     `db > web yes; client > web yes; probe > web no; world > web no`,
		},
		{
			name:     "deny egress: policyTypes decides, no rule needed",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}`},
			want:     `client > web no; client > world no; client > node no; db > client yes; world > client yes`,
		},
		{
			name:     "policyTypes defaults to Ingress, and to both when there is an egress rule",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: client}}, egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}`},
			want:     `client > db yes; client > web no; db > client no`,
		},
		{
			name:     "rules of a direction that policyTypes leaves out have no effect",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}`},
			want:     `client > web yes; client > world yes; db > client no`,
		},
		{
			name: "both ends must agree",
			policies: map[string]string{
				"default/out":   `{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}`,
				"default/in":    `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`,
				"default/never": `{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}`,
			},
			want: `client > web yes; client > db no; client > other no; other > web no`,
		},
		{
			name: "default deny and a way out to the database and DNS",
			policies: map[string]string{
				"default/deny": `{podSelector: {}, policyTypes: [Ingress, Egress]}`,
				"default/db":   `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5432}]}, {to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}]}`,
				"default/in":   `{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`,
			},
			want: `web > db:5432 yes; web > db:80 no; web > probe:53/UDP yes; web > probe:53 no; web > world:53/UDP no; client > db:5432 no; client > node:6443 no; web > node:6443 no`,
		},
		{
			name:     "a policy of another namespace selects nothing here",
			policies: map[string]string{"other/p": `{podSelector: {}, policyTypes: [Ingress, Egress]}`},
			want:     `client > web yes; web > other no; other > world no`,
		},
		{
			name:     "host-network pods are the node, ended pods are nobody",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}`},
			change: func(s *Snapshot) {
				s.Pods = append(s.Pods, pods(newPod("default", "agent", nodeIP).hostNetwork(), newPod("default", "done", "10.244.0.8").phase(corev1.PodSucceeded),
					newPod("default", "broken", "10.244.0.9").phase(corev1.PodFailed), newPod("default", "starting", "10.244.0.10").phase(corev1.PodPending))...)
			},
			want: `node > web no; 10.244.0.8 > web no; 10.244.0.8 > world no; 10.244.0.9 > db no; client > 10.244.0.8 no; 10.244.0.10 > web yes`,
		},
		{
			name:     "the address of an ended pod belongs to its next owner",
			policies: map[string]string{"default/p": `{podSelector: {matchLabels: {app: next}}, policyTypes: [Egress]}`},
			change: func(s *Snapshot) {
				s.Pods = append(s.Pods, pods(newPod("default", "done", "10.244.0.8").phase(corev1.PodSucceeded), newPod("default", "next", "10.244.0.8").label("app", "next"))...)
			},
			want: `10.244.0.8 > web no; web > 10.244.0.8 yes`,
		},
		{
			name:   "an address that two running pods claim stays closed",
			change: func(s *Snapshot) { s.Pods = append(s.Pods, newPod("other", "twin", clientIP).Pod) },
			want:   `client > web no; web > client no; client > client no; db > web yes`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := cast()
			for key, spec := range test.policies {
				ns, name, _ := strings.Cut(key, "/")
				s.Policies = append(s.Policies, policyFrom(t, ns, name, spec))
			}
			if test.change != nil {
				test.change(&s)
			}
			rules := Compile(s)
			for _, line := range strings.FieldsFunc(test.want, func(r rune) bool { return r == ';' || r == '\n' }) {
				if strings.TrimSpace(line) == "" {
					continue
				}
				packet, want := parsePacket(t, line)
				judge, oracular := rules.MayForward, oracle{s}.mayForward
				if packet.Dst.String() == nodeIP {
					judge, oracular = rules.MayLeave, oracle{s}.mayLeave
				}
				if judge(packet) != want {
					t.Errorf("%s: got the opposite", strings.TrimSpace(line))
				}
				if oracular(packet) != want {
					t.Errorf("%s: the oracle of the property test says the opposite", strings.TrimSpace(line))
				}
			}
		})
	}
}

// What the node itself sends to its pods is never judged (it passes no forward hook):
// "node > web no" is about somebody else's packet that is forwarded under that address.
var castAddresses = map[string]string{
	"web": webIP, "web6": web6IP, "db": dbIP, "client": clientIP, "probe": probeIP, "other": otherIP,
	"world": worldIP, "otherworld": otherWorldIP, "node": nodeIP, "unknown": unknownIP,
}

func parsePacket(t *testing.T, line string) (Packet, bool) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) != 4 || words[1] != ">" {
		t.Fatalf("cannot read %q", line)
	}
	p := Packet{Protocol: corev1.ProtocolTCP, Port: 80}
	target := words[2]
	if name, port, ok := strings.Cut(target, ":"); ok && castAddresses[name] != "" {
		target = name
		number, protocol, _ := strings.Cut(port, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			t.Fatalf("cannot read the port of %q", line)
		}
		p.Port = uint16(n)
		switch protocol {
		case "":
		case "ICMP":
			p.Protocol = ""
		default:
			p.Protocol = corev1.Protocol(protocol)
		}
	}
	p.Src, p.Dst = resolve(words[0]), resolve(target)
	return p, words[3] == "yes"
}

func resolve(name string) netip.Addr {
	if a, ok := castAddresses[name]; ok {
		name = a
	}
	return netip.MustParseAddr(name)
}

func TestUnreadableInputIsTakenInTheClosedSense(t *testing.T) {
	s := cast()
	bad := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Perhaps"}}}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bad"}}
	policy.Spec.PodSelector = bad
	policy.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
		{PodSelector: &bad}, {NamespaceSelector: &bad}, {}, {IPBlock: &networkingv1.IPBlock{CIDR: "everything"}},
		{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"nothing"}}},
	}}}
	s.Policies = append(s.Policies, policy)
	rules := Compile(s)
	for _, line := range []string{"client > web no", "world > web no", "client > other yes"} {
		if p, want := parsePacket(t, line); rules.MayForward(p) != want {
			t.Errorf("%s: got the opposite", line)
		}
	}
	if len(rules.Problems) != 5 {
		t.Errorf("want the selector and four peers reported, got %q", rules.Problems)
	}
}

func TestSidecarsServeNamedPortsAndOtherInitContainersDoNot(t *testing.T) {
	s := cast()
	always := corev1.ContainerRestartPolicyAlways
	web := s.Pods[0]
	web.Spec.InitContainers = []corev1.Container{
		{Name: "sidecar", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 15000}}}, // protocol defaults to TCP
		{Name: "init", Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 15001}}},
	}
	s.Policies = append(s.Policies, policyFrom(t, "default", "p", `{podSelector: {}, ingress: [{ports: [{port: mesh}]}]}`))
	rules := Compile(s)
	for _, line := range []string{"db > web:15000 yes", "db > web:15001 no"} {
		if p, want := parsePacket(t, line); rules.MayForward(p) != want {
			t.Errorf("%s: got the opposite", line)
		}
	}
}
