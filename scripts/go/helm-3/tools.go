//go:build tools

// Package helm pins Helm 3, for scripts/test versions.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
