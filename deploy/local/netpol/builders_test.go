package netpol

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var testCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/64")}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

type podBuilder struct{ *corev1.Pod }

// newPod is a running pod with the given addresses.
func newPod(namespace, name string, addresses ...string) podBuilder {
	p := podBuilder{&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}}
	for _, a := range addresses {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	if len(addresses) > 0 {
		p.Status.PodIP = addresses[0]
	}
	return p
}

func (p podBuilder) label(key, value string) podBuilder { p.Labels[key] = value; return p }

func (p podBuilder) phase(phase corev1.PodPhase) podBuilder { p.Status.Phase = phase; return p }

func (p podBuilder) hostNetwork() podBuilder { p.Spec.HostNetwork = true; return p }

func (p podBuilder) port(name string, protocol corev1.Protocol, number int32) podBuilder {
	c := &p.Spec.Containers[0]
	c.Ports = append(c.Ports, corev1.ContainerPort{Name: name, Protocol: protocol, ContainerPort: number})
	return p
}

func pods(builders ...podBuilder) []*corev1.Pod {
	var out []*corev1.Pod
	for _, b := range builders {
		out = append(out, b.Pod)
	}
	return out
}

// policyFrom reads a policy as users write it.
func policyFrom(t *testing.T, namespace, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatalf("the policy in this test is wrong: %v", err)
	}
	return p
}
