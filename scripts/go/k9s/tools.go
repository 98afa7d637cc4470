//go:build tools

// Package k9s pins k9s, for scripts/test versions.
package k9s

import _ "github.com/derailed/k9s"
