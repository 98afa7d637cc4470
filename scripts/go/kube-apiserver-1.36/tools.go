//go:build tools

// Package apiserver pins the API server of Kubernetes 1.36, for scripts/test versions.
package apiserver

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
