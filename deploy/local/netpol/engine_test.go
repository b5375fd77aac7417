package netpol

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// The engine with real nft and packets. Only the API server is played, by client-go's
// tracker; the native cluster's end-to-end tests run it against the real one.
func TestEngineFollowsTheAPIServer(t *testing.T) {
	b := newTestbed(t, threePods)
	s := threePodSnapshot()
	client := fake.NewClientset(s.Namespaces[0], s.Pods[0], s.Pods[1])
	stop := b.startEngine(client)

	b.expect("client does not exist", clientSealed+"\n web > 10.244.0.2:8080 db")
	policies, pods := client.NetworkingV1().NetworkPolicies("default"), client.CoreV1().Pods("default")
	ctx := context.Background()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(pods.Create(ctx, s.Pods[2], metav1.CreateOptions{}))
	b.expect("client is there: TCP's own retries bridge the moment", "client > 10.244.0.1:8080 web; client > 10.96.0.1:443 node")
	established := b.open("client", "10.244.0.1:8080")

	must(policies.Create(ctx, policyFrom(t, "default", "seal", sealClient), metav1.CreateOptions{}))
	b.eventually("the policy cuts the connection", func() bool { return established.say("still there?", closedAfter) != nil })
	b.expect("client isolated", clientSealed)

	stop()
	b.expect("the engine is gone, the rules stay", clientSealed+"\n web > 10.244.0.2:8080 db")

	// Nothing that happened meanwhile may open it before the next engine has looked.
	must(nil, policies.Delete(ctx, "seal", metav1.DeleteOptions{}))
	b.expect("nobody has looked yet", clientSealed)
	stop = b.startEngine(client)
	defer stop()
	b.expect("policy deleted", everythingOpen)

	relabelled := s.Pods[2].DeepCopy()
	relabelled.Labels["app"] = "sealed"
	must(policies.Create(ctx, policyFrom(t, "default", "seal", strings.Replace(sealClient, "client", "sealed", 1)), metav1.CreateOptions{}))
	must(pods.Update(ctx, relabelled, metav1.UpdateOptions{}))
	b.eventually("a label that is added counts", func() bool { return b.ask("client", "tcp", "", "10.244.0.1:8080", closedAfter) == "" })

	b.in("node", "nft", "delete", "table", "inet", tableName)
	must(nil, pods.Delete(ctx, "db", metav1.DeleteOptions{}))
	b.eventually("a table that was deleted comes back with the next change", func() bool {
		return b.ask("client", "tcp", "", "10.244.0.1:8080", closedAfter) == ""
	})
}

// startEngine returns when the engine is ready, and a function that stops it.
func (b *testbed) startEngine(client *fake.Clientset) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	started := make(chan *Engine, 1)
	go func() {
		ended <- b.enter("node", func() error {
			nft, err := openTable()
			if err != nil {
				return err
			}
			engine, err := NewEngine(client, nft, Options{PodCIDRs: testCIDRs, InterfacePrefix: "veth"})
			if err != nil {
				return err
			}
			started <- engine
			return engine.Run(ctx)
		})
	}()
	engine := <-started
	b.eventually("the engine gets ready", func() bool { return engine.Ready() == nil })
	return func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the engine ended with %v", err)
		}
	}
}

func (b *testbed) eventually(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(openWithin); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	b.t.Fatalf("not within %s: %s", openWithin, what)
}

func TestProbesTellWhetherTheTableFollows(t *testing.T) {
	engine, err := NewEngine(fake.NewClientset(), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := serve("127.0.0.1:0", engine)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "first list") {
		t.Errorf("before the first list readyz says %d %q", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("healthz says %d", code)
	}
	engine.setReady(nil)
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("after a sync readyz says %d", code)
	}
}

func TestTheCommandRefusesWithARemedy(t *testing.T) {
	for _, c := range []struct {
		args []string
		path string
		want string
	}{
		{args: []string{"--pod-cidr=10.244.0.0/16"}, want: "pass --kubeconfig"},
		{args: []string{"--kubeconfig=k"}, want: "pass --pod-cidr"},
		{args: []string{"--kubeconfig=k", "--pod-cidr=10.244.0.0"}, want: "pass a --pod-cidr such as"},
		{args: []string{"--kubeconfig=k", "--pod-cidr=10.244.0.0/16", "--pod-interface-prefix="}, want: "pass a --pod-interface-prefix"},
		{args: []string{"--kubeconfig=/nonexistent", "--pod-cidr=10.244.0.0/16"}, want: "pass a readable --kubeconfig"},
	} {
		cmd := NewCommand()
		cmd.SetArgs(c.args)
		cmd.SetErr(io.Discard)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestNftIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := openTable(); err == nil || !strings.Contains(err.Error(), "install nftables") {
		t.Errorf("got %v", err)
	}
}

func TestNftIsNotPermitted(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	// In a user of its own, nft really is refused.
	withoutCapabilities(t, func() {
		if _, err := openTable(); err == nil || !strings.Contains(err.Error(), "run this as root") {
			t.Errorf("got %v", err)
		}
	})
}
