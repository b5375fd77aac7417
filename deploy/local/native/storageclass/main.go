// Command storageclass serves the native cluster's default StorageClass: every
// claim gets a directory of this machine. A development aid for one node; the
// work is done by the library of Kubernetes' SIG Storage.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is what the StorageClass names as its provisioner.
const Name = "crucible.dev/directory"

type directory struct{ root, node string }

func (d directory) path(pv string) string { return filepath.Join(d.root, filepath.Base(pv)) }

func (d directory) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	path := d.path(o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// Pods run as many different users; the umask must not decide which may write.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{d.node}}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (d directory) Delete(_ context.Context, pv *v1.PersistentVolume) error {
	return os.RemoveAll(d.path(pv.Name))
}

func run(kubeconfig, root, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read --kubeconfig %s: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := klog.NewContext(context.Background(), klog.Background())
	controller.NewProvisionController(ctx, client, Name, directory{root, node}, controller.LeaderElection(false)).Run(ctx)
	return nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file")
	root := flag.String("root", "", "directory that holds the volumes")
	node := flag.String("node", "", "name of the node that holds the directory")
	flag.Parse()
	if err := run(*kubeconfig, *root, *node); err != nil {
		fmt.Fprintln(os.Stderr, "storageclass:", err)
		os.Exit(1)
	}
}
