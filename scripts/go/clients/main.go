// Command client does what programs written with client-go do with KUBECONFIG, in one namespace.
//
//	client use NAMESPACE NAME    gets ConfigMap seed, lists, applies ConfigMap NAME twice and watches both changes
//	client follow NAMESPACE      an informer of ConfigMaps; prints what it sees, and the token of each watch as a digest
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const manager = "client-go"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 3 && arguments[0] == "use":
		clients, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		return use(ctx, clients.CoreV1().ConfigMaps(arguments[1]), arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "follow":
		return follow(ctx, config, arguments[1])
	}
	return fmt.Errorf("usage: client use NAMESPACE NAME | client follow NAMESPACE")
}

func use(ctx context.Context, maps typedcorev1.ConfigMapInterface, namespace, name string) error {
	seed, err := maps.Get(ctx, "seed", metav1.GetOptions{})
	if err != nil {
		return err
	}
	fmt.Println("got", seed.Data["state"])
	list, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, each := range list.Items {
		fmt.Println("listed", each.Name)
	}
	if err := apply(ctx, maps, namespace, name, "first"); err != nil {
		return err
	}
	events, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		seen, known := event.Object.(*corev1.ConfigMap)
		if !known {
			return fmt.Errorf("the watch gave %T: %v", event.Object, event.Object)
		}
		if seen.Name != name {
			continue
		}
		fmt.Println("watched", event.Type, seen.Data["state"])
		if event.Type == watch.Modified {
			return nil
		}
		if err := apply(ctx, maps, namespace, name, "second"); err != nil {
			return err
		}
	}
	return fmt.Errorf("the watch ended")
}

func apply(ctx context.Context, maps typedcorev1.ConfigMapInterface, namespace, name, state string) error {
	wanted := applycorev1.ConfigMap(name, namespace).WithData(map[string]string{"state": state})
	_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager})
	return err
}

func follow(ctx context.Context, config *rest.Config, namespace string) error {
	// Wrapped from within: the wrapper of client-go that sets the token is around it.
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return observer{next} })
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { fmt.Println("added", object.(*corev1.ConfigMap).Name) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	fmt.Println("synced")
	<-ctx.Done()
	return nil
}

type observer struct{ next http.RoundTripper }

func (o observer) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := o.next.RoundTrip(request)
	if request.URL.Query().Get("watch") != "" {
		token := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
		digest := fmt.Sprintf("%x", sha256.Sum256([]byte(token)))
		if err != nil {
			fmt.Println("watch", digest, "failed at", time.Now().UTC().Format(time.TimeOnly))
		} else {
			fmt.Println("watch", digest, response.StatusCode)
		}
	}
	return response, err
}
