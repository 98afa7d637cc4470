// Command operator is an operator as controller-runtime makes them, which finds its cluster by itself: by the files of
// its service account, where nothing else is said. It elects a leader, and watches the ConfigMaps of one namespace.
//
//	operator NAMESPACE NAME LAST
//
// It gets ConfigMap seed, lists, and writes ConfigMap NAME: first, second once it has seen first, and fourth once it has
// seen third, which another has to write. It ends when it has seen LAST.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

var next = map[string]string{"first": "second", "third": "fourth"}

type reconciler struct {
	client.Client
	key  client.ObjectKey
	last string
	end  context.CancelFunc
}

func main() {
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: operator NAMESPACE NAME LAST")
	}
	key := client.ObjectKey{Namespace: arguments[0], Name: arguments[1]}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Cache:   cache.Options{DefaultNamespaces: map[string]cache.Config{key.Namespace: {}}},
		Metrics: server.Options{BindAddress: "0"},
		// Longer than client-go takes to read a token again: leaders of the test lose theirs at once.
		LeaderElection:   true,
		LeaderElectionID: key.Name,
		LeaseDuration:    ptr.To(4 * time.Minute),
		RenewDeadline:    ptr.To(3 * time.Minute),
	})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	made := &reconciler{Client: manager.GetClient(), key: key, last: arguments[2], end: end}
	if err := ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Complete(made); err != nil {
		return err
	}
	if err := made.begin(ctx, manager.GetAPIReader()); err != nil {
		return err
	}
	return manager.Start(ctx)
}

func (r *reconciler) begin(ctx context.Context, reader client.Reader) error {
	var seed corev1.ConfigMap
	if err := reader.Get(ctx, client.ObjectKey{Namespace: r.key.Namespace, Name: "seed"}, &seed); err != nil {
		return err
	}
	fmt.Println("got", seed.Data["state"])
	var found corev1.ConfigMapList
	if err := reader.List(ctx, &found, client.InNamespace(r.key.Namespace)); err != nil {
		return err
	}
	for _, each := range found.Items {
		fmt.Println("listed", each.Name)
	}
	return r.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.key.Namespace, Name: r.key.Name},
		Data:       map[string]string{"state": "first"},
	})
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if request.NamespacedName != r.key {
		return ctrl.Result{}, nil
	}
	var seen corev1.ConfigMap
	if err := r.Get(ctx, r.key, &seen); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	state := seen.Data["state"]
	fmt.Println("watched", "MODIFIED", state)
	if state == r.last {
		r.end()
		return ctrl.Result{}, nil
	}
	wanted, found := next[state]
	if !found {
		return ctrl.Result{}, nil
	}
	seen.Data["state"] = wanted
	if err := r.Update(ctx, &seen); err != nil && !apierrors.IsConflict(err) {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, nil
}
