// Command shim is gVisor's containerd shim with one difference: it starts
// without lowering its OOM score. Upstream's Start gives up when the kernel refuses
// that (no CAP_SYS_RESOURCE, as in many virtual machines and containers), and the
// score has no part in isolation: it only makes the shim a later victim.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	v1 "gvisor.dev/gvisor/pkg/shim/v1"
	_ "gvisor.dev/gvisor/pkg/shim/v1/plugin"
	"gvisor.dev/gvisor/pkg/shim/v1/runsc"
)

// Set by containerd's CRI on every container of a pod: they share one shim.
const groupAnnotation = "io.kubernetes.cri.sandbox-id"

type manager struct{ shim.Manager }

func (manager) Start(ctx context.Context, id string, opts shim.StartOpts) (shim.BootstrapParams, error) {
	var none shim.BootstrapParams
	group, err := grouping(id)
	if err != nil {
		return none, err
	}
	address, err := shim.SocketAddress(ctx, opts.Address, group, opts.Debug)
	if err != nil {
		return none, err
	}
	params := shim.BootstrapParams{Version: 2, Address: address, Protocol: "ttrpc"}
	socket, err := shim.NewSocket(address)
	if shim.SocketEaddrinuse(err) {
		if shim.CanConnect(address) { // the shim of this pod already runs
			return params, os.WriteFile("address", []byte(address), 0o644)
		}
		if err := shim.RemoveSocket(address); err != nil {
			return none, fmt.Errorf("remove stale shim socket: %w", err)
		}
		socket, err = shim.NewSocket(address)
	}
	if err != nil {
		return none, fmt.Errorf("create shim socket: %w", err)
	}
	file, err := socket.File()
	if err != nil {
		return none, err
	}
	cmd, err := command(ctx, id, opts)
	if err != nil {
		return none, err
	}
	cmd.ExtraFiles = []*os.File{file}
	// The serving process reads this file, so it must be there before that process starts.
	if err := os.WriteFile("address", []byte(address), 0o644); err != nil {
		return none, err
	}
	if err := cmd.Start(); err != nil {
		_ = shim.RemoveSocket(address)
		return none, err
	}
	go cmd.Wait()
	if err := shim.WritePidFile("shim.pid", cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = shim.RemoveSocket(address)
		return none, err
	}
	return params, nil
}

func grouping(id string) (string, error) {
	if o := runsc.GetRuntimeOptions(); o == nil || !o.Grouping {
		return id, nil
	}
	raw, err := os.ReadFile("config.json") // containerd starts the shim in the bundle
	if err != nil {
		return "", err
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", err
	}
	if g, ok := spec.Annotations[groupAnnotation]; ok {
		return g, nil
	}
	return id, nil
}

func command(ctx context.Context, id string, opts shim.StartOpts) (*exec.Cmd, error) {
	ns, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-namespace", ns, "-address", opts.Address, "-id", id}
	if opts.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

func main() {
	shim.Run(context.Background(), manager{v1.NewShimManager("io.containerd.runsc.v1")})
}
