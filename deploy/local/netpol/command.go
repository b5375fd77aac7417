package netpol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/metrics/legacyregistry"
	"sigs.k8s.io/knftables"
)

type settings struct {
	kubeconfig      string
	podCIDRs        []string
	interfacePrefix string
	metricsAddress  string
}

// NewCommand is the component's command line.
func NewCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:           "netpol",
		Short:         "Enforce NetworkPolicy on a single node through nftables",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return run(ctx, s)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "file with the API server's address and a credential that may list and watch pods, namespaces and networkpolicies")
	flags.StringSliceVar(&s.podCIDRs, "pod-cidr", nil, "network of the pods' addresses; repeat it for a second family")
	flags.StringVar(&s.interfacePrefix, "pod-interface-prefix", "veth", "how the names of the host's ends of the pods' interfaces begin, and no others")
	flags.StringVar(&s.metricsAddress, "metrics-bind-address", "127.0.0.1:10290", "where /healthz, /readyz and /metrics are served")
	return cmd
}

func run(ctx context.Context, s settings) error {
	options, err := s.options()
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return fmt.Errorf("pass a readable --kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("pass a --kubeconfig that leads to the API server: %w", err)
	}
	nft, err := openTable()
	if err != nil {
		return err
	}
	engine, err := NewEngine(client, nft, options)
	if err != nil {
		return err
	}
	_, stop, err := serve(s.metricsAddress, engine)
	if err != nil {
		return fmt.Errorf("choose another --metrics-bind-address: %w", err)
	}
	defer stop()
	return engine.Run(ctx)
}

func (s settings) options() (Options, error) {
	o := Options{InterfacePrefix: s.interfacePrefix}
	if s.kubeconfig == "" {
		return o, errors.New("pass --kubeconfig, the engine follows the API server")
	}
	if s.interfacePrefix == "" || strings.ContainsAny(s.interfacePrefix, "\"*\\ ") || len(s.interfacePrefix) > 14 {
		return o, fmt.Errorf("pass a --pod-interface-prefix such as veth, not %q", s.interfacePrefix)
	}
	if len(s.podCIDRs) == 0 {
		return o, errors.New("pass --pod-cidr, the network in which unknown addresses stay closed")
	}
	for _, text := range s.podCIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return o, fmt.Errorf("pass a --pod-cidr such as 10.244.0.0/16: %w", err)
		}
		o.PodCIDRs = append(o.PodCIDRs, prefix.Masked())
	}
	return o, nil
}

func openTable() (knftables.Interface, error) {
	nft, err := knftables.New(knftables.InetFamily, tableName)
	switch {
	case err == nil:
		return nft, nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("install nftables 1.0.1 or later, or add the folder of nft to PATH: nft was not found")
	case strings.Contains(err.Error(), "not permitted"):
		return nil, errors.New("run this as root or with CAP_NET_ADMIN: nft may not change rules here")
	default:
		return nil, fmt.Errorf("make nft work on this machine, version 1.0.1 or later: %w", err)
	}
}

func serve(address string, engine *Engine) (bound string, stop func(), err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := engine.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("/metrics", legacyregistry.Handler())
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}
