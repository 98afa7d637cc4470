package main

import (
	"fmt"
	"os"
)

// faults are targets that misbehave: each must be answered for by the proxy, or end as the target ended it.
func faults() []action {
	inside := map[string][]string{
		"reset":        {"answer 502", "closed"},
		"garbage":      {"answer 502", "closed"},
		"garbage-tls":  {"answer 502", "closed"},
		"two-lengths":  {"answer 502", "closed"},
		"unasked-101":  {"answer 502", "closed"},
		"endless-head": {"answer 502", "closed"},
		"cut-short":    {"closed"},
		"cut-chunk":    {"closed"},
	}
	actions := []action{{"target fails TLS", 6, faultyTLS, []string{"answer 502", "answer 504", "closed"}}}
	for kind, allowed := range inside {
		actions = append(actions, action{"target: " + kind, 2, misbehaving(kind), allowed})
	}
	return actions
}

func misbehaving(kind string) func(*settings) error {
	return func(s *settings) error {
		request := s.route.request("GET", fmt.Sprintf("/pods/faulty?kind=%s", kind), "")
		return within(&s.route, func(c *conn) error { return smallGet(c, request) })
	}
}

func faultyTLS(s *settings) error {
	r := s.route
	r.target, r.auth = s.faulty, os.Getenv("BENCH_FAULTY_AUTH")
	return within(&r, func(c *conn) error { return smallGet(c, r.request("GET", "/pods/small", "")) })
}
