package netpol

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A packet that is let through is answered in microseconds; the rest is for a busy machine.
	openWithin = 5 * time.Second
	// Below TCP's first retransmission (1 s): a dropped SYN is judged by itself.
	closedAfter = 250 * time.Millisecond

	tcpPort, otherTCPPort, udpPort = 8080, 9090, 8080
	serviceIP, apiServiceIP        = "10.96.0.10", "10.96.0.1" // → db:8080, → node:8080, as kube-proxy translates
	gatewayIP, gateway6IP          = "10.244.255.254", "fd00:10:244::ffff"
	world6IP                       = "2001:db8::2"
)

// testbed is a node, its pods and the world beyond, each a network namespace.
// All traffic stays inside them.
type testbed struct {
	t        *testing.T
	ns       map[string]string // role → name of the network namespace
	handles  map[string]*os.File
	mu       sync.Mutex
	received map[string]bool // "role payload" of UDP datagrams that arrived
}

func newTestbed(t *testing.T, pods map[string][2]string) *testbed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces and nft need CAP_NET_ADMIN")
	}
	for _, tool := range []string{"nft", "ip", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: packets cannot be tested", tool)
		}
	}
	b := &testbed{t: t, ns: map[string]string{}, handles: map[string]*os.File{}, received: map[string]bool{}}
	b.addNamespace("node")
	b.in("node", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	b.in("node", "ip", "address", "add", nodeIP+"/32", "dev", "lo")
	for name, addresses := range pods {
		b.addPod(name, addresses[0], addresses[1])
	}
	b.addNamespace("world")
	b.ip("-n", b.ns["node"], "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", b.ns["world"])
	b.link("node", "uplink", "198.51.100.1/24", "2001:db8::1/64")
	b.link("world", "eth0", worldIP+"/24", world6IP+"/64")
	b.ip("-n", b.ns["world"], "route", "add", "default", "via", "198.51.100.1")
	b.ip("-n", b.ns["world"], "-6", "route", "add", "default", "via", "2001:db8::1")
	b.in("node", "nft", fmt.Sprintf(`add table ip services; add chain ip services pre { type nat hook prerouting priority -100; };
		add rule ip services pre ip daddr %s tcp dport 80 dnat to %s:%d;
		add rule ip services pre ip daddr %s tcp dport 443 dnat to %s:%d`, serviceIP, dbIP, tcpPort, apiServiceIP, nodeIP, tcpPort))
	b.serve("node", nodeIP, gatewayIP)
	b.serve("world", worldIP, world6IP)
	return b
}

// addPod wires a pod as CNI ptp does: a routed veth of its own, every address a host route.
func (b *testbed) addPod(name, v4, v6 string) {
	b.addNamespace(name)
	host, in := "veth"+name, b.ns[name]
	b.ip("-n", b.ns["node"], "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", in)
	b.link("node", host, gatewayIP+"/32", gateway6IP+"/128")
	b.link(name, "eth0", v4+"/32", v6+"/128")
	b.ip("-n", b.ns["node"], "route", "add", v4+"/32", "dev", host)
	b.ip("-n", b.ns["node"], "-6", "route", "add", v6+"/128", "dev", host)
	b.ip("-n", in, "route", "add", gatewayIP, "dev", "eth0")
	b.ip("-n", in, "route", "add", "default", "via", gatewayIP)
	b.ip("-n", in, "-6", "route", "add", gateway6IP, "dev", "eth0")
	b.ip("-n", in, "-6", "route", "add", "default", "via", gateway6IP)
	b.serve(name, v4, v6)
}

func (b *testbed) addNamespace(role string) {
	b.t.Helper()
	name := fmt.Sprintf("netpol%d-%s", os.Getpid(), role)
	b.ip("netns", "add", name)
	b.t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	handle, err := os.Open("/var/run/netns/" + name)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = handle.Close() })
	b.ns[role], b.handles[role] = name, handle
	b.ip("-n", name, "link", "set", "lo", "up")
	b.in(role, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0") // link-local addresses usable at once
}

func (b *testbed) link(role, device string, addresses ...string) {
	b.t.Helper()
	b.ip("-n", b.ns[role], "link", "set", device, "up")
	for _, a := range addresses {
		args := []string{"-n", b.ns[role], "address", "add", a, "dev", device}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		b.ip(args...)
	}
}

func (b *testbed) ip(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (b *testbed) in(role string, command ...string) string {
	b.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", b.ns[role]}, command...)...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// enter runs f on a thread inside the namespace: sockets that f opens and processes it starts belong there.
func (b *testbed) enter(role string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(b.handles[role].Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// serve answers every connection and datagram with the role's name.
func (b *testbed) serve(role string, addresses ...string) {
	b.t.Helper()
	err := b.enter(role, func() error {
		for _, port := range []int{tcpPort, otherTCPPort} {
			listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			b.t.Cleanup(func() { _ = listener.Close() })
			go serveTCP(listener, role)
		}
		for _, a := range addresses {
			conn, err := net.ListenPacket("udp", net.JoinHostPort(a, fmt.Sprint(udpPort)))
			if err != nil {
				return err
			}
			b.t.Cleanup(func() { _ = conn.Close() })
			go b.serveUDP(conn, role)
		}
		return nil
	})
	if err != nil {
		b.t.Fatalf("servers of %s: %v", role, err)
	}
}

func serveTCP(listener net.Listener, role string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprintln(conn, role)
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				fmt.Fprintln(conn, lines.Text())
			}
		}()
	}
}

func (b *testbed) serveUDP(conn net.PacketConn, role string) {
	buffer := make([]byte, 100)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.received[role+" "+string(buffer[:n])] = true
		b.mu.Unlock()
		_, _ = conn.WriteTo([]byte(role+"\n"), from)
	}
}

func (b *testbed) dial(role, network, local, remote string, within time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := b.enter(role, func() (err error) {
		dialer := net.Dialer{Timeout: within}
		if local != "" {
			if network == "udp" {
				dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0))
			} else {
				dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0))
			}
		}
		conn, err = dialer.Dial(network, remote)
		return err
	})
	return conn, err
}

// ask returns what the server said, or "" for silence. It fails the test on a
// refusal: that would be an answer of the kernel, neither reply nor silence.
func (b *testbed) ask(role, network, local, remote string, within time.Duration) string {
	conn, err := b.dial(role, network, local, remote, within)
	if err == nil {
		defer conn.Close()
		if network == "udp" {
			_, _ = conn.Write([]byte("hello"))
		}
		_ = conn.SetDeadline(time.Now().Add(within))
		var reply string
		if reply, err = bufio.NewReader(conn).ReadString('\n'); err == nil {
			return strings.TrimSpace(reply)
		}
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		b.t.Errorf("%s > %s/%s: neither reply nor silence: %v", role, remote, network, err)
	}
	return ""
}

// expect lists "from > address:port[/udp] name", the name of the server that must
// answer, or "-" for silence. All are asked at once.
func (b *testbed) expect(when, lines string) {
	b.t.Helper()
	var wait sync.WaitGroup
	for _, line := range strings.FieldsFunc(lines, func(r rune) bool { return r == ';' || r == '\n' }) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 4 {
			b.t.Fatalf("cannot read %q", line)
		}
		remote, network := words[2], "tcp"
		if address, ok := strings.CutSuffix(remote, "/udp"); ok {
			remote, network = address, "udp"
		}
		want, within := words[3], openWithin
		if want == "-" {
			want, within = "", closedAfter
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			if got := b.ask(words[0], network, "", remote, within); got != want {
				b.t.Errorf("%s: %s > %s/%s was answered by %q, want %q", when, words[0], remote, network, got, want)
			}
		}()
	}
	wait.Wait()
}

// withoutCapabilities runs f on a thread whose children may not administer networks.
func withoutCapabilities(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			// Of the bounding set, so that programs executed by root do not get it back.
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
				t.Errorf("dropping CAP_NET_ADMIN: %v", err)
				return
			}
		}
		f()
	}()
	<-done
}
