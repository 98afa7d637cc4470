package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

type latencies struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Error    string  `json:"error,omitempty"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

type sample struct {
	took []time.Duration
	errs []error
}

func summary(samples []sample) latencies {
	var all []time.Duration
	var out latencies
	for _, s := range samples {
		all = append(all, s.took...)
		out.Errors += len(s.errs)
		if len(s.errs) > 0 {
			out.Error = s.errs[0].Error()
		}
	}
	if out.Requests = len(all); out.Requests == 0 {
		return out
	}
	slices.Sort(all)
	at := func(share float64) float64 { return all[int(share*float64(len(all)-1))].Seconds() * 1e3 }
	out.P50, out.P99, out.Max = at(0.5), at(0.99), at(1)
	return out
}

func smallGet(c *conn, request []byte) error {
	response, err := c.get(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// repeat runs one loop a client until the time is over; a client stops at its third error. At a pace the clients take
// turns, and a request's time is from when it was due: what waits for a late answer counts as late as well.
func repeat(s *settings, once func(client int) error) (any, error) {
	samples := make([]sample, s.clients)
	var group sync.WaitGroup
	begin := time.Now()
	deadline := begin.Add(s.duration)
	for i := range samples {
		group.Go(func() {
			for mine, n := &samples[i], 0; time.Now().Before(deadline) && len(mine.errs) < 3; n++ {
				start := time.Now()
				if s.pace > 0 {
					start = begin.Add(time.Duration(n*s.clients+i) * time.Second / time.Duration(s.pace))
					time.Sleep(time.Until(start))
				}
				if err := once(i); err != nil {
					mine.errs = append(mine.errs, err)
				} else {
					mine.took = append(mine.took, time.Since(start))
				}
			}
		})
	}
	group.Wait()
	return summary(samples), nil
}

// dialAll makes n connections, a few at a time, and lets use do something with each.
func dialAll(r *route, n, buffer int, use func(*conn) error) ([]*conn, error) {
	conns, errs := make([]*conn, n), make([]error, n)
	turn := make(chan struct{}, 16)
	var group sync.WaitGroup
	for i := range conns {
		turn <- struct{}{}
		group.Go(func() {
			defer func() { <-turn }()
			if conns[i], errs[i] = r.dial(buffer); errs[i] == nil {
				errs[i] = use(conns[i])
			}
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return conns, nil
}

// warm sends GETs over connections that exist already.
func warm(s *settings) (func() (any, error), error) {
	request := s.route.request("GET", "/pods/small", "")
	conns, err := dialAll(&s.route, s.clients, 16<<10, func(c *conn) error { return smallGet(c, request) })
	return func() (any, error) {
		return repeat(s, func(client int) error { return smallGet(conns[client], request) })
	}, err
}

// fresh makes a new connection for each small GET, without session resumption, as each run of kubectl does.
func fresh(s *settings) (func() (any, error), error) {
	request := s.route.request("GET", "/pods/small", "")
	once := func(int) error {
		c, err := s.route.dial(4 << 10)
		if err != nil {
			return err
		}
		defer c.Close()
		return smallGet(c, request)
	}
	return func() (any, error) { return repeat(s, once) }, once(0)
}
