// Command client does what programs written with client-go do with KUBECONFIG, in one namespace.
//
//	client use NAMESPACE NAME LAST    gets ConfigMap seed, lists, applies and watches ConfigMap NAME
//	client argocd SECRET NAMESPACE NAME LAST
//	                                  the same on the cluster of a cluster Secret of Argo CD, which KUBECONFIG's cluster has
//	client flux SECRET NAMESPACE NAME LAST
//	                                  the same on the cluster of a Secret that Flux takes for spec.kubeConfig.secretRef
//	client flux-configmap CONFIGMAP NAMESPACE NAME LAST
//	                                  the same on the cluster of a ConfigMap for spec.kubeConfig.configMapRef, by Flux's library
//	client exec PROTOCOL NAMESPACE POD COMMAND…
//	                                  COMMAND in POD with the client's own streams and exit code; websocket or spdy
//	client follow NAMESPACE           an informer of ConfigMaps; prints what it sees, and the token of each watch as a digest
//	client write NAMESPACE            writes of all kinds, and what each answered
//
// ConfigMap NAME becomes first, second once first was seen, and fourth once third was seen, which another has to write.
// The client ends when it has seen LAST.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/fluxcd/pkg/auth"
	"github.com/fluxcd/pkg/auth/generic"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const manager = "client-go"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		var ended exec.CodeExitError
		if errors.As(err, &ended) {
			os.Exit(ended.Code)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	cmdconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	config, err := cmdconfig.ClientConfig()
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 4 && arguments[0] == "use":
		return use(ctx, arguments[1:], func() (*rest.Config, error) { return config, nil })
	case len(arguments) == 5 && (ofSecret[arguments[0]] != nil || arguments[0] == "flux-configmap"):
		own, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		namespace, _, err := cmdconfig.Namespace()
		if err != nil {
			return err
		}
		if arguments[0] == "flux-configmap" {
			return use(ctx, arguments[2:], func() (*rest.Config, error) {
				return ofFluxConfigMap(ctx, config, namespace, arguments[1])
			})
		}
		secrets := own.CoreV1().Secrets(namespace)
		return use(ctx, arguments[2:], func() (*rest.Config, error) {
			secret, err := secrets.Get(ctx, arguments[1], metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			return ofSecret[arguments[0]](secret)
		})
	case len(arguments) > 4 && arguments[0] == "exec":
		return execute(ctx, config, arguments[1], arguments[2], arguments[3], arguments[4:])
	case len(arguments) == 2 && arguments[0] == "follow":
		return follow(ctx, config, arguments[1])
	case len(arguments) == 2 && arguments[0] == "write":
		return write(ctx, config, arguments[1])
	}
	return fmt.Errorf("usage: client use NAMESPACE NAME LAST | client argocd|flux SECRET NAMESPACE NAME LAST | " +
		"client flux-configmap CONFIGMAP NAMESPACE NAME LAST | " +
		"client exec PROTOCOL NAMESPACE POD COMMAND… | client follow NAMESPACE | client write NAMESPACE")
}

var ofSecret = map[string]func(*corev1.Secret) (*rest.Config, error){"argocd": ofArgoCD, "flux": ofFlux}

// ofFlux is the cluster of a Secret as Flux keeps them: of its kubeconfig what is in it, and neither files nor plugins.
// https://fluxcd.io/flux/components/kustomize/kustomizations/#kubeconfig-remote-clusters
func ofFlux(secret *corev1.Secret) (*rest.Config, error) {
	whole, err := clientcmd.RESTConfigFromKubeConfig(secret.Data["value"])
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            whole.Host,
		BearerToken:     whole.BearerToken,
		Proxy:           whole.Proxy,
		TLSClientConfig: rest.TLSClientConfig{CAData: whole.CAData},
	}, nil
}

// ofFluxConfigMap returns the cluster of a ConfigMap, as auth/utils.GetRESTConfig of Flux does for the provider "generic".
// That package is not used, because it links the libraries of three clouds.
func ofFluxConfigMap(ctx context.Context, own *rest.Config, namespace, name string) (*rest.Config, error) {
	auth.EnableObjectLevelWorkloadIdentity() // --feature-gates=ObjectLevelWorkloadIdentity=true of Flux's controllers
	reader, err := client.New(own, client.Options{})
	if err != nil {
		return nil, err
	}
	var configMap corev1.ConfigMap
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &configMap); err != nil {
		return nil, err
	}
	data := configMap.Data
	if data["provider"] != generic.ProviderName {
		return nil, fmt.Errorf("provider %q is not supported here", data["provider"])
	}
	cluster, err := auth.GetRESTConfig(ctx, generic.Provider{},
		auth.WithClient(reader),
		auth.WithClusterAddress(data["address"]),
		auth.WithCAData(data["ca.crt"]),
		auth.WithServiceAccountNamespace(namespace),
		auth.WithServiceAccountName(data["serviceAccountName"]),
		auth.WithAudiences(strings.Fields(data["audiences"])...))
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            cluster.Host,
		BearerToken:     cluster.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: cluster.CAData},
	}, nil
}

// ofArgoCD is the cluster of a Secret as Argo CD keeps them, with a token or with a credential plugin.
// https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#clusters
func ofArgoCD(secret *corev1.Secret) (*rest.Config, error) {
	var config struct {
		BearerToken        string `json:"bearerToken"`
		ExecProviderConfig *struct {
			Command    string            `json:"command"`
			Args       []string          `json:"args"`
			Env        map[string]string `json:"env"`
			APIVersion string            `json:"apiVersion"`
		} `json:"execProviderConfig"`
		TLSClientConfig struct {
			CAData []byte `json:"caData"`
		} `json:"tlsClientConfig"`
	}
	if err := json.Unmarshal(secret.Data["config"], &config); err != nil {
		return nil, err
	}
	cluster := &rest.Config{
		Host:            string(secret.Data["server"]),
		BearerToken:     config.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: config.TLSClientConfig.CAData},
	}
	if plugin := config.ExecProviderConfig; plugin != nil {
		cluster.ExecProvider = &clientcmdapi.ExecConfig{
			Command: plugin.Command, Args: plugin.Args, APIVersion: plugin.APIVersion,
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}
		for name, value := range plugin.Env {
			cluster.ExecProvider.Env = append(cluster.ExecProvider.Env, clientcmdapi.ExecEnvVar{Name: name, Value: value})
		}
	}
	return cluster, nil
}

// use connects anew for each watch, so that who writes a Secret anew is noticed.
func use(ctx context.Context, arguments []string, configuration func() (*rest.Config, error)) error {
	namespace, name, last := arguments[0], arguments[1], arguments[2]
	connect := func() (typedcorev1.ConfigMapInterface, error) {
		config, err := configuration()
		if err != nil {
			return nil, err
		}
		clients, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		return clients.CoreV1().ConfigMaps(namespace), nil
	}
	maps, err := connect()
	if err != nil {
		return err
	}
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
	version := list.ResourceVersion
	for {
		maps, err := connect()
		if err != nil {
			return err
		}
		ended, err := watchUntil(ctx, maps, namespace, name, version, last)
		if ended {
			return nil
		}
		fmt.Fprintln(os.Stderr, "the watch ended:", err)
		version = ""
		time.Sleep(time.Second)
	}
}

var next = map[string]string{"first": "second", "third": "fourth"}

// watchUntil is true once the last state was seen.
func watchUntil(
	ctx context.Context, maps typedcorev1.ConfigMapInterface, namespace, name, version, last string,
) (bool, error) {
	events, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return false, err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		seen, known := event.Object.(*corev1.ConfigMap)
		if !known {
			return false, fmt.Errorf("the watch gave %T: %v", event.Object, event.Object)
		}
		if seen.Name != name {
			continue
		}
		state := seen.Data["state"]
		fmt.Println("watched", event.Type, state)
		if state == last {
			return true, nil
		}
		if wanted, found := next[state]; found {
			if err := apply(ctx, maps, namespace, name, wanted); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func apply(ctx context.Context, maps typedcorev1.ConfigMapInterface, namespace, name, state string) error {
	wanted := applycorev1.ConfigMap(name, namespace).WithData(map[string]string{"state": state})
	_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: true})
	return err
}

// execute falls back to no other protocol than the one that is asked for.
func execute(ctx context.Context, config *rest.Config, protocol, namespace, pod string, command []string) error {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	options := &corev1.PodExecOptions{Command: command, Stdin: true, Stdout: true, Stderr: true}
	request := clients.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).
		SubResource("exec").VersionedParams(options, scheme.ParameterCodec)
	var executor remotecommand.Executor
	switch protocol {
	case "websocket":
		executor, err = remotecommand.NewWebSocketExecutor(config, http.MethodGet, request.URL().String())
	case "spdy":
		executor, err = remotecommand.NewSPDYExecutor(config, http.MethodPost, request.URL())
	default:
		err = fmt.Errorf("no protocol %q: websocket or spdy", protocol)
	}
	if err != nil {
		return err
	}
	streams := remotecommand.StreamOptions{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	return executor.StreamWithContext(ctx, streams)
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
