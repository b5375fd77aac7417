package netpol

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var threePods = map[string][2]string{
	"web": {webIP, web6IP}, "db": {dbIP, "fd00:10:244::2"}, "client": {clientIP, "fd00:10:244::3"},
}

func threePodSnapshot() Snapshot {
	s := Snapshot{PodCIDRs: testCIDRs, Namespaces: []*corev1.Namespace{namespace("default", nil)}}
	for _, name := range []string{"web", "db", "client"} {
		s.Pods = append(s.Pods, newPod("default", name, threePods[name][0], threePods[name][1]).
			label("app", name).port("http", corev1.ProtocolTCP, tcpPort).Pod)
	}
	return s
}

// put applies the snapshot's rules inside the node's namespace, as the engine does.
func (b *testbed) put(s Snapshot) {
	b.t.Helper()
	err := b.enter("node", func() error {
		nft, err := openTable()
		if err != nil {
			return err
		}
		rules := Compile(s)
		if err := render(rules, "veth").apply(context.Background(), nft); err != nil {
			return err
		}
		_, err = cutConnections(rules)
		return err
	})
	if err != nil {
		b.t.Fatalf("applying the rules: %v", err)
	}
}

const everythingOpen = `
	client > 10.244.0.1:8080 web; client > 10.244.0.2:9090 db; client > 10.244.0.1:8080/udp web
	client > [fd00:10:244::1]:8080 web; client > [fd00:10:244::1]:8080/udp web
	client > 10.250.0.1:8080 node; client > 10.244.255.254:8080/udp node
	client > 10.96.0.10:80 db; client > 10.96.0.1:443 node
	client > 198.51.100.2:8080 world; client > [2001:db8::2]:8080 world
	world > 10.244.0.3:8080 client; world > [fd00:10:244::3]:8080 client; db > 10.244.0.3:8080 client
	node > 10.244.0.3:8080 client; node > 10.244.0.3:8080/udp client; node > [fd00:10:244::3]:8080 client
	node > 10.244.255.254:8080 node`

const clientSealed = `
	client > 10.244.0.1:8080 -; client > 10.244.0.2:9090 -; client > 10.244.0.1:8080/udp -
	client > [fd00:10:244::1]:8080 -; client > [fd00:10:244::1]:8080/udp -
	client > 10.250.0.1:8080 -; client > 10.244.255.254:8080/udp -
	client > 10.96.0.10:80 -; client > 10.96.0.1:443 -
	client > 198.51.100.2:8080 -; client > [2001:db8::2]:8080 -
	world > 10.244.0.3:8080 -; world > [fd00:10:244::3]:8080 -; db > 10.244.0.3:8080 -
	node > 10.244.0.3:8080 client; node > 10.244.0.3:8080/udp client; node > [fd00:10:244::3]:8080 client
	node > 10.244.255.254:8080 node`

const sealClient = `{podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress, Egress]}`

func TestPackets(t *testing.T) {
	b := newTestbed(t, threePods)
	linkLocal := b.hostLinkLocal("client")
	// The control: every probe below can succeed.
	b.expect("without rules", everythingOpen+"\n client > "+linkLocal+" node")

	known := threePodSnapshot()
	unknown := known
	unknown.Pods = known.Pods[:2]
	b.put(unknown)
	b.expect("client not seen yet", clientSealed+"\n web > 10.244.0.2:8080 db; client > "+linkLocal+" -")

	b.put(known)
	b.expect("no policy", everythingOpen+"\n client > "+linkLocal+" -")

	sealed := known
	sealed.Policies = append(sealed.Policies, policyFrom(t, "default", "seal", sealClient))
	b.put(sealed)
	b.ip("-n", b.ns["node"], "neighbour", "flush", "all") // isolation does not stop neighbour discovery
	b.expect("client isolated", clientSealed+"\n web > 10.244.0.2:8080 db; web > 10.96.0.10:80 db; client > "+linkLocal+" -")

	some := known
	some.Policies = append(some.Policies,
		policyFrom(t, "default", "in", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}, {port: 8080, protocol: UDP}]}]}`),
		policyFrom(t, "default", "out", `{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: "::/0", except: ["fd00::/8"]}}]}, {to: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}`),
		policyFrom(t, "default", "service", `{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 8080}, {port: 8000, endPort: 8100, protocol: UDP}]}, {ports: [{protocol: SCTP}]}]}`))
	b.put(some)
	b.expect("some allowed", `
		client > 10.244.0.1:8080 web; client > 10.244.0.1:9090 -; client > 10.244.0.1:8080/udp web; client > [fd00:10:244::1]:8080 web
		world > 10.244.0.1:8080 -; db > 10.244.0.1:8080 -; node > 10.244.0.1:9090 web
		db > 198.51.100.2:9090 world; db > [2001:db8::2]:8080 world; db > 10.250.0.1:8080 -; db > 10.96.0.1:443 -
		db > 10.244.0.3:8080 client; db > 10.244.0.3:9090 -; db > [fd00:10:244::3]:8080 client; db > 10.244.0.3:8080/udp -
		client > 10.96.0.10:80 db; client > 10.96.0.1:443 -; client > 198.51.100.2:8080 -; world > 10.244.0.3:9090 client
		web > 10.244.0.3:8080 client; web > 198.51.100.2:8080 world`)

	ended := known
	ended.Pods = append(slices.Clone(known.Pods[:2]), newPod("default", "client", clientIP).phase(corev1.PodSucceeded).Pod)
	b.put(ended)
	b.expect("client has ended", clientSealed)

	b.put(known)
	b.expect("all reopened", everythingOpen)
	// Only the chains that are wanted stay.
	if chains := regexp.MustCompile(`chain (\w+gress_\w+)`).FindAllString(b.in("node", "nft", "list", "table", "inet", tableName), -1); len(chains) > 0 {
		t.Errorf("chains of policies that are gone are left: %v", chains)
	}
}

// hostLinkLocal is the node's link-local address on a pod's interface, as the pod dials it.
func (b *testbed) hostLinkLocal(pod string) string {
	found := regexp.MustCompile(`fe80::[0-9a-f:]+`).FindString(b.in("node", "ip", "-6", "address", "show", "dev", "veth"+pod, "scope", "link"))
	if found == "" {
		b.t.Fatal("the node's end has no link-local address")
	}
	index := ""
	_ = b.enter(pod, func() error { // scopes are numbers of the namespace the socket lives in
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			index = fmt.Sprint(link.Index)
		}
		return err
	})
	return fmt.Sprintf("[%s%%%s]:%d", found, index, tcpPort)
}

func TestForgedSourcesAreDropped(t *testing.T) {
	b := newTestbed(t, threePods)
	sealed := threePodSnapshot()
	sealed.Policies = append(sealed.Policies, policyFrom(t, "default", "seal", sealClient))
	// client also takes web's address, an unknown pod's, the node's and the world's.
	forged := []string{webIP, "10.244.0.99", nodeIP, "198.51.100.77", web6IP, "2001:db8::77"}
	for _, a := range forged {
		b.link("client", "eth0", a+"/"+map[bool]string{true: "128", false: "32"}[strings.Contains(a, ":")])
	}
	send := func(round string) map[string]bool {
		for _, from := range forged {
			to := "10.244.0.2"
			if strings.Contains(from, ":") {
				to = "fd00:10:244::2"
			}
			conn, err := b.dial("client", "udp", from, net.JoinHostPort(to, fmt.Sprint(udpPort)), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, round, from)
			_ = conn.Close()
		}
		time.Sleep(closedAfter)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.received
	}
	for _, s := range []string{"default", "all", "vethclient"} { // or the kernel's own check would hide ours
		b.in("node", "sysctl", "-qw", "net.ipv4.conf."+s+".rp_filter=0")
	}
	received := send("before ")
	for _, from := range forged {
		if from != nodeIP && !received["db before "+from] { // the kernel itself takes its own address from nobody
			t.Errorf("control: a datagram from %s does not arrive even without rules", from)
		}
	}
	b.put(sealed)
	received = send("after ")
	for _, from := range forged {
		if received["db after "+from] {
			t.Errorf("a datagram that client sent as %s arrived", from)
		}
	}
}

func TestConnectionsThatAreNoLongerAllowedAreCut(t *testing.T) {
	b := newTestbed(t, threePods)
	known := threePodSnapshot()
	b.put(known)
	targets := map[string]string{"pod": "10.244.0.1:8080", "service": "10.96.0.10:80", "node": "10.250.0.1:8080", "API": "10.96.0.1:443", "world": "198.51.100.2:8080", "IPv6": "[fd00:10:244::1]:8080"}
	conns := map[string]*echo{}
	for name, remote := range targets {
		conns[name] = b.open("client", remote)
	}
	inbound, bystander := b.open("node", "10.244.0.3:8080"), b.open("web", "10.96.0.10:80")

	// Egress alone: the far ends may still open connections of their own, but not resume these.
	sealed := known
	sealed.Policies = append(sealed.Policies, policyFrom(t, "default", "seal", `{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}`))
	b.put(sealed)
	var wait sync.WaitGroup
	for name, conn := range conns {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if err := conn.say("still there?", closedAfter); err == nil {
				t.Errorf("the connection to the %s goes on", name)
			}
		}()
	}
	wait.Wait()
	for name, conn := range map[string]*echo{"node to pod": inbound, "pod that no policy selects": bystander} {
		if err := conn.say("still there?", openWithin); err != nil {
			t.Errorf("%s: the connection was cut: %v", name, err)
		}
	}
	b.expect("after the cut", "web > 10.244.0.3:8080 client; node > 10.244.0.3:9090 client; client > 10.244.0.1:8080 -")
}

// The server's end is what speaks first after the cut: it must not revive the connection.
func TestTheFarEndCannotResumeACutConnection(t *testing.T) {
	b := newTestbed(t, threePods)
	known := threePodSnapshot()
	b.put(known)
	sealed := known
	sealed.Policies = append(sealed.Policies, policyFrom(t, "default", "seal", `{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}`))
	for far, address := range map[string]string{"web": webIP, "node": nodeIP, "world": worldIP} {
		b.put(known)
		accepted := make(chan net.Conn, 1)
		var listener net.Listener
		if err := b.enter(far, func() (err error) { listener, err = net.Listen("tcp4", ":7071"); return err }); err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, _ := listener.Accept()
			accepted <- conn
		}()
		near, err := b.dial("client", "tcp", "", address+":7071", openWithin)
		if err != nil {
			t.Fatal(err)
		}
		farEnd := <-accepted
		b.put(sealed)
		fmt.Fprintln(farEnd, "anyone?")
		_ = near.SetReadDeadline(time.Now().Add(closedAfter))
		if line, err := bufio.NewReader(near).ReadString('\n'); err == nil {
			t.Errorf("%s reached the pod over the cut connection: %q", far, line)
		}
		for _, c := range []interface{ Close() error }{near, farEnd, listener} {
			_ = c.Close()
		}
	}
}

type echo struct {
	conn  net.Conn
	lines *bufio.Reader
}

func (b *testbed) open(role, remote string) *echo {
	b.t.Helper()
	conn, err := b.dial(role, "tcp", "", remote, openWithin)
	if err != nil {
		b.t.Fatalf("%s > %s: %v", role, remote, err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	e := &echo{conn, bufio.NewReader(conn)}
	if _, err := e.lines.ReadString('\n'); err != nil {
		b.t.Fatalf("%s > %s: no greeting: %v", role, remote, err)
	}
	if err := e.say("hello", openWithin); err != nil {
		b.t.Fatalf("%s > %s: %v", role, remote, err)
	}
	return e
}

func (e *echo) say(text string, within time.Duration) error {
	_ = e.conn.SetDeadline(time.Now().Add(within))
	if _, err := fmt.Fprintln(e.conn, text); err != nil {
		return err
	}
	_, err := e.lines.ReadString('\n')
	return err
}

// An isolated pod hammers while the table is replaced over and over, by engines
// that know nothing of each other: nothing may ever get through.
func TestNoWindowWhileTheTableIsReplaced(t *testing.T) {
	const replacements = 40
	b := newTestbed(t, threePods)
	variants := []Snapshot{threePodSnapshot(), threePodSnapshot(), threePodSnapshot()}
	variants[0].Pods = variants[0].Pods[:2] // client unknown
	variants[1].Policies = append(variants[1].Policies, policyFrom(t, "default", "seal", sealClient))
	variants[2].Policies = append(variants[2].Policies, policyFrom(t, "default", "all", `{podSelector: {}, policyTypes: [Ingress, Egress]}`))
	b.put(variants[0])
	stop, sent := make(chan struct{}), atomic.Int64{}
	var wait sync.WaitGroup
	for _, remote := range []string{"10.244.0.1:8080", "10.250.0.1:8080", "[fd00:10:244::1]:8080"} {
		conn, err := b.dial("client", "udp", "", remote, openWithin)
		if err != nil {
			t.Fatal(err)
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer conn.Close()
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = conn.Write([]byte("storm"))
					sent.Add(1)
				}
			}
		}()
	}
	for i := range replacements {
		b.put(variants[i%len(variants)])
	}
	close(stop)
	wait.Wait()
	time.Sleep(closedAfter)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, role := range []string{"web", "node"} {
		if b.received[role+" storm"] {
			t.Errorf("of %d datagrams some reached %s", sent.Load(), role)
		}
	}
	t.Logf("%d datagrams sent, %d replacements", sent.Load(), replacements)
}

// What nft makes of random policies, against the oracle.
func TestPacketsAgreeWithTheOracle(t *testing.T) {
	const snapshots = 12
	b := newTestbed(t, threePods)
	random := generator{rand.New(rand.NewPCG(seed(t), 0))}
	addresses := map[string][2]string{"world": {worldIP, world6IP}}
	for name, a := range threePods {
		addresses[name] = a
	}
	for range snapshots {
		s := random.snapshot()
		s.Pods = nil
		for name, a := range threePods {
			p := newPod(pick(random, "one", "two"), name, a[0], a[1]).port("http", corev1.ProtocolTCP, pick[int32](random, tcpPort, otherTCPPort)).port("dns", corev1.ProtocolUDP, udpPort)
			p.Labels = random.labels()
			s.Pods = append(s.Pods, p.Pod)
		}
		b.put(s)
		var lines strings.Builder
		for from := range addresses {
			for to := range addresses {
				for family := range 2 {
					for port, protocol := range map[string]corev1.Protocol{"8080": "TCP", "9090": "TCP", "8080/udp": "UDP"} {
						if from == to {
							continue
						}
						want := "-"
						target := net.JoinHostPort(addresses[to][family], strings.TrimSuffix(port, "/udp")) + strings.TrimPrefix(port, strings.TrimSuffix(port, "/udp"))
						number := netip.MustParseAddrPort("1.1.1.1:" + strings.TrimSuffix(port, "/udp")).Port()
						if (oracle{s}).mayForward(Packet{netip.MustParseAddr(addresses[from][family]), netip.MustParseAddr(addresses[to][family]), protocol, number}) {
							want = to
						}
						fmt.Fprintf(&lines, "%s > %s %s;", from, target, want)
					}
				}
			}
		}
		b.expect("random policies", lines.String())
		if t.Failed() {
			t.Fatalf("with\n%s\n%s", describe(s), b.in("node", "nft", "list", "table", "inet", tableName))
		}
	}
}
