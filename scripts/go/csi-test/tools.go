//go:build tools

// Package csitest pins csi-sanity, the conformance test of CSI drivers.
package csitest

import _ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
