package main

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const existing = "existing"

type change struct {
	name string
	send func(context.Context) error
}

// write sends changes of all kinds, in JSON and in protobuf. It prints the encoding, the name and the error of each.
func write(ctx context.Context, config *rest.Config, namespace string) error {
	for _, encoding := range []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf} {
		encoded := rest.CopyConfig(config)
		encoded.ContentType = encoding
		encoded.WarningHandler = rest.NoWarnings{}
		encoded.QPS = -1
		clients, err := kubernetes.NewForConfig(encoded)
		if err != nil {
			return err
		}
		dynamic, err := client.New(encoded, client.Options{})
		if err != nil {
			return err
		}
		changes := append(objectChanges(clients, namespace), subresourceChanges(clients, namespace)...)
		changes = append(changes, deletions(clients, namespace)...)
		for _, each := range append(changes, runtimeChanges(dynamic, namespace)...) {
			message := "done"
			if err := each.send(ctx); err != nil {
				message = err.Error()
			}
			fmt.Println(strings.Join([]string{encoding, each.name, message}, "\t"))
		}
	}
	return nil
}

func objectChanges(clients *kubernetes.Clientset, namespace string) []change {
	maps := clients.CoreV1().ConfigMaps(namespace)
	object := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": "b"}}
	}
	changes := []change{
		{"create", func(ctx context.Context) error {
			_, err := maps.Create(ctx, object("created"), metav1.CreateOptions{})
			return err
		}},
		{"create with a generated name", func(ctx context.Context) error {
			_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{})
			return err
		}},
		{"create a Secret", func(ctx context.Context) error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "created"}}
			_, err := clients.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
			return err
		}},
		{"update", func(ctx context.Context) error {
			_, err := maps.Update(ctx, object(existing), metav1.UpdateOptions{})
			return err
		}},
		{"apply", func(ctx context.Context) error {
			wanted := applycorev1.ConfigMap("applied", namespace).WithData(map[string]string{"a": "b"})
			_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: true})
			return err
		}},
	}
	for kind, patch := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`,
		types.MergePatchType:          `{"metadata":{"labels":{"a":"b"}}}`,
		types.StrategicMergePatchType: `{"metadata":{"labels":{"a":"b"}}}`,
	} {
		changes = append(changes, change{"patch " + string(kind), func(ctx context.Context) error {
			_, err := maps.Patch(ctx, existing, kind, []byte(patch), metav1.PatchOptions{})
			return err
		}})
	}
	return changes
}

func subresourceChanges(clients *kubernetes.Clientset, namespace string) []change {
	deployments, pods := clients.AppsV1().Deployments(namespace), clients.CoreV1().Pods(namespace)
	named := metav1.ObjectMeta{Name: existing, Namespace: namespace}
	return []change{
		{"scale", func(ctx context.Context) error {
			scale := &autoscalingv1.Scale{ObjectMeta: named, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
			_, err := deployments.UpdateScale(ctx, existing, scale, metav1.UpdateOptions{})
			return err
		}},
		{"patch scale", func(ctx context.Context) error {
			patch := []byte(`{"spec":{"replicas":3}}`)
			_, err := deployments.Patch(ctx, existing, types.MergePatchType, patch, metav1.PatchOptions{}, "scale")
			return err
		}},
		{"update status", func(ctx context.Context) error {
			deployment, err := deployments.Get(ctx, existing, metav1.GetOptions{})
			if err != nil {
				return err
			}
			deployment.Status.ObservedGeneration = 7
			_, err = deployments.UpdateStatus(ctx, deployment, metav1.UpdateOptions{})
			return err
		}},
		{"apply status", func(ctx context.Context) error {
			wanted := appsapply.Deployment(existing, namespace).
				WithStatus(appsapply.DeploymentStatus().WithObservedGeneration(7))
			_, err := deployments.ApplyStatus(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: true})
			return err
		}},
		{"evict", func(ctx context.Context) error {
			return pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: named})
		}},
		{"evict with options", func(ctx context.Context) error {
			seconds := int64(0)
			options := &metav1.DeleteOptions{GracePeriodSeconds: &seconds}
			return pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: named, DeleteOptions: options})
		}},
		{"bind", func(ctx context.Context) error {
			binding := &corev1.Binding{ObjectMeta: named, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
			return pods.Bind(ctx, binding, metav1.CreateOptions{})
		}},
		{"finalize", func(ctx context.Context) error {
			space, err := clients.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
			if err != nil {
				return err
			}
			space.Spec.Finalizers = nil
			_, err = clients.CoreV1().Namespaces().Finalize(ctx, space, metav1.UpdateOptions{})
			return err
		}},
		{"token", func(ctx context.Context) error {
			_, err := clients.CoreV1().ServiceAccounts(namespace).
				CreateToken(ctx, existing, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
	}
}

func deletions(clients *kubernetes.Clientset, namespace string) []change {
	maps, seconds := clients.CoreV1().ConfigMaps(namespace), int64(0)
	foreground, resource := metav1.DeletePropagationForeground, clients.CoreV1().RESTClient()
	absent := types.UID("absent")
	changes := []change{
		{"delete a namespace", func(ctx context.Context) error {
			return clients.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
		}},
		{"delete a pod", func(ctx context.Context) error {
			return clients.CoreV1().Pods(namespace).Delete(ctx, existing, metav1.DeleteOptions{})
		}},
		{"delete without a body", func(ctx context.Context) error {
			return resource.Delete().Namespace(namespace).Resource("configmaps").Name(existing).Do(ctx).Error()
		}},
		{"delete with another value of dryRun", func(ctx context.Context) error {
			return resource.Delete().Namespace(namespace).Resource("configmaps").Name(existing).
				Param("dryRun", "").Body(&metav1.DeleteOptions{DryRun: []string{}}).Do(ctx).Error()
		}},
	}
	for name, options := range map[string]metav1.DeleteOptions{
		"no options":     {},
		"a grace period": {GracePeriodSeconds: &seconds},
		"propagation":    {PropagationPolicy: &foreground},
		"preconditions":  {Preconditions: &metav1.Preconditions{UID: &absent}},
		"dryRun":         {DryRun: []string{metav1.DryRunAll}},
	} {
		changes = append(changes,
			change{"delete with " + name, func(ctx context.Context) error { return maps.Delete(ctx, existing, options) }},
			change{"deletecollection with " + name, func(ctx context.Context) error {
				return maps.DeleteCollection(ctx, options, metav1.ListOptions{})
			}},
			change{"deletecollection of Secrets with " + name, func(ctx context.Context) error {
				return clients.CoreV1().Secrets(namespace).DeleteCollection(ctx, options, metav1.ListOptions{})
			}})
	}
	return changes
}

func runtimeChanges(dynamic client.Client, namespace string) []change {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: existing, Namespace: namespace}}
	return []change{
		{"controller-runtime: delete", func(ctx context.Context) error { return dynamic.Delete(ctx, object.DeepCopy()) }},
		{"controller-runtime: delete all", func(ctx context.Context) error {
			return dynamic.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace(namespace))
		}},
		{"controller-runtime: patch", func(ctx context.Context) error {
			changed := object.DeepCopy()
			changed.Labels = map[string]string{"c": "d"}
			return dynamic.Patch(ctx, changed, client.MergeFrom(object))
		}},
		{"controller-runtime: update status", func(ctx context.Context) error {
			deployment := &appsv1.Deployment{}
			if err := dynamic.Get(ctx, client.ObjectKeyFromObject(object), deployment); err != nil {
				return err
			}
			deployment.Status.ObservedGeneration = 7
			return dynamic.Status().Update(ctx, deployment)
		}},
	}
}
