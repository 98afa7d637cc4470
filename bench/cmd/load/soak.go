package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	actionTimeout = 60 * time.Second
	maxThink      = 2 * time.Second
	maxExamples   = 20
)

// An action is something that a client does; it is right only if it ends in one of these ways.
type action struct {
	name    string
	weight  int
	run     func(*settings) error
	allowed []string
}

type soakReport struct {
	Outcomes    map[string]map[string]int `json:"outcomes"`
	Unexplained int                       `json:"unexplained"`
	Examples    []string                  `json:"examples"`
}

// soak lets each client do one action after another, with time to think between, and counts how they end.
func soak(s *settings) (func() (any, error), error) {
	actions := append(append(honest(), rude()...), faults()...)
	var deck []*action
	for i := range actions {
		for range actions[i].weight {
			deck = append(deck, &actions[i])
		}
	}
	return func() (any, error) {
		report := soakReport{Outcomes: map[string]map[string]int{}, Examples: []string{}}
		var lock sync.Mutex
		var group sync.WaitGroup
		deadline := time.Now().Add(s.duration)
		for range s.clients {
			group.Go(func() {
				for time.Now().Before(deadline) {
					time.Sleep(rand.N(maxThink))
					act := deck[rand.IntN(len(deck))]
					err := act.run(s)
					lock.Lock()
					report.add(act, err)
					lock.Unlock()
				}
			})
		}
		group.Wait()
		return report, nil
	}, nil
}

func (r *soakReport) add(act *action, err error) {
	how := outcome(err)
	if r.Outcomes[act.name] == nil {
		r.Outcomes[act.name] = map[string]int{}
	}
	r.Outcomes[act.name][how]++
	for _, prefix := range act.allowed {
		if strings.HasPrefix(how, prefix) {
			return
		}
	}
	r.Unexplained++
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, fmt.Sprintf("%s: %s: %v", act.name, how, err))
	}
}

// outcome names how an action ended: ok, a status line, closed, timeout, or the error itself.
func outcome(err error) string {
	var refused refusal
	var network net.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused):
		return "CONNECT " + refused.status[:min(3, len(refused.status))]
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case strings.HasPrefix(err.Error(), "answer "):
		return err.Error()[:min(10, len(err.Error()))]
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "reset by peer"),
		strings.Contains(err.Error(), "broken pipe"):
		return "closed"
	}
	return err.Error()
}
