package netpol

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/knftables"
)

const (
	// Long enough to take a burst of events as one, short enough not to be felt by a starting pod.
	debounce = 20 * time.Millisecond
	retry    = time.Second
	// Puts the table back if somebody flushed it.
	resync = 30 * time.Second
	// nft takes milliseconds; one that hangs must not stop the engine for good.
	nftTimeout = 10 * time.Second
)

// Options of an Engine.
type Options struct {
	PodCIDRs []netip.Prefix
	// InterfacePrefix begins the name of the host's end of every pod's interface, and of nothing else.
	InterfacePrefix string
}

// Engine keeps the table in step with the API server.
type Engine struct {
	options Options
	nft     knftables.Interface
	kick    chan struct{}

	factory  informers.SharedInformerFactory
	snapshot func() (Snapshot, error)

	applied  *ruleset // what was put in the table last
	doubtful bool     // whether it is there still is not known
	problems []string // logged already

	mu       sync.Mutex
	notReady error
}

// NewEngine neither talks to the API server nor touches the table yet.
func NewEngine(client kubernetes.Interface, nft knftables.Interface, options Options) (*Engine, error) {
	e := &Engine{
		options: options, nft: nft, kick: make(chan struct{}, 1),
		factory:  informers.NewSharedInformerFactory(client, 0),
		notReady: fmt.Errorf("the first list from the API server has not arrived"),
	}
	pods, namespaces := e.factory.Core().V1().Pods(), e.factory.Core().V1().Namespaces()
	policies := e.factory.Networking().V1().NetworkPolicies()
	changed := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { e.changed() },
		UpdateFunc: func(any, any) { e.changed() },
		DeleteFunc: func(any) { e.changed() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(changed); err != nil {
			return nil, err
		}
	}
	e.snapshot = func() (s Snapshot, err error) {
		s.PodCIDRs = options.PodCIDRs
		if s.Pods, err = pods.Lister().List(labels.Everything()); err != nil {
			return s, err
		}
		if s.Namespaces, err = namespaces.Lister().List(labels.Everything()); err != nil {
			return s, err
		}
		s.Policies, err = policies.Lister().List(labels.Everything())
		return s, err
	}
	return e, nil
}

// Run works until the context ends and leaves the table in place.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.closeFirst(ctx); err != nil {
		return err
	}
	e.factory.Start(ctx.Done())
	for kind, synced := range e.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("listing %v was interrupted: %w", kind, ctx.Err())
		}
	}
	e.changed()
	again := time.NewTimer(resync)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.kick:
			time.Sleep(debounce)
		case <-again.C:
			e.doubtful = true
		}
		err := e.sync(ctx)
		e.setReady(err)
		if err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "The policies could not be put in place; what was there stays", "retryAfter", retry)
			e.doubtful = true
			again.Reset(retry)
			continue
		}
		again.Reset(resync)
	}
}

// closeFirst makes sure that a table is there: without one, pods that start before
// the first list arrives would be open. One that is there already stays as it is.
func (e *Engine) closeFirst(ctx context.Context) error {
	closed := render(&Rules{PodCIDRs: e.options.PodCIDRs}, e.options.InterfacePrefix)
	tx, err := closed.transaction(ctx, e.nft)
	if err == nil {
		err = e.nft.Check(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("the kernel does not take the rules (%w): load or enable nf_tables with inet, fib and conntrack support", err)
	}
	if chains, err := e.nft.List(ctx, "chains"); err != nil || len(chains) > 0 {
		return err
	}
	return e.nft.Run(ctx, tx)
}

func (e *Engine) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	snapshot, err := e.snapshot()
	if err != nil {
		return err
	}
	rules := Compile(snapshot)
	e.report(rules.Problems)
	wanted := render(rules, e.options.InterfacePrefix)
	same := reflect.DeepEqual(wanted, e.applied)
	if same && !e.doubtful {
		return nil
	}
	if err := wanted.apply(ctx, e.nft); err != nil {
		return err
	}
	e.applied, e.doubtful = wanted, false
	if same {
		return nil
	}
	cut, err := cutConnections(rules)
	if err != nil { // new connections are judged rightly all the same
		klog.ErrorS(err, "Connections that are not allowed any more may go on")
	}
	klog.InfoS("Policies are in place", "addresses", len(rules.Egress), "policies", len(snapshot.Policies), "connectionsCut", cut)
	return nil
}

func (e *Engine) report(problems []string) {
	if reflect.DeepEqual(problems, e.problems) {
		return
	}
	e.problems = problems
	for _, p := range problems {
		klog.InfoS("Taken in the closed sense", "problem", p)
	}
}

func (e *Engine) changed() {
	select {
	case e.kick <- struct{}{}:
	default: // one is waiting already
	}
}

func (e *Engine) setReady(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notReady = err
}

// Ready is nil while the table follows the API server.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.notReady
}
