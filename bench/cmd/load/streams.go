package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

type streams struct {
	Streams int   `json:"streams"`
	Events  int64 `json:"events"`
	Ended   int64 `json:"ended"`
}

// idle opens watches, reads the first event of each, and holds them for the duration; none should end.
func idle(s *settings) (func() (any, error), error) {
	request := s.route.request("GET", "/pods?watch=1&"+s.query, "")
	var events, ended atomic.Int64
	conns, err := dialAll(&s.route, s.clients, 4<<10, func(c *conn) error {
		response, err := c.get(request)
		if err != nil {
			return err
		}
		body := bufio.NewReaderSize(response.Body, 1<<10)
		_, err = body.ReadSlice('\n')
		go count(body, &events, &ended)
		return err
	})
	return func() (any, error) {
		time.Sleep(s.duration)
		return streams{Streams: len(conns), Events: events.Load(), Ended: ended.Load()}, nil
	}, err
}

func count(body *bufio.Reader, events, ended *atomic.Int64) {
	for {
		if _, err := body.ReadSlice('\n'); err != nil {
			ended.Add(1)
			return
		}
		events.Add(1)
	}
}

// watch reads one long watch (-query events=N) and checks the number of each event.
func watch(s *settings) (func() (any, error), error) {
	request := s.route.request("GET", "/pods?watch=1&"+s.query, "")
	c, err := s.route.dial(64 << 10)
	return func() (any, error) {
		response, err := c.get(request)
		if err != nil {
			return nil, err
		}
		return readEvents(response)
	}, err
}

func readEvents(response *http.Response) (streams, error) {
	var seen int64
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		seen++
		if want := fmt.Appendf(nil, "\"resourceVersion\":\"%d\"", seen); !bytes.Contains(lines.Bytes(), want) {
			return streams{}, fmt.Errorf("event %d is %.100s", seen, lines.Bytes())
		}
	}
	return streams{Streams: 1, Events: seen}, lines.Err()
}
