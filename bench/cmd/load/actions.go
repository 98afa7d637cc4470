package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

var ok = []string{"ok"}

// within gives use a tunnel with a deadline, and closes it.
func within(r *route, use func(*conn) error) error {
	c, err := r.dial(16 << 10)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(actionTimeout)); err != nil {
		return err
	}
	return use(c)
}

// honest actions must all succeed, whatever goes on beside them.
func honest() []action {
	return []action{
		{"20 requests on one tunnel", 20, func(s *settings) error { return within(&s.route, twenty(s)) }, ok},
		{"download of 4 MB", 6, func(s *settings) error { return within(&s.route, fetch(s, 4<<20)) }, ok},
		{"upload of 4 MB", 6, func(s *settings) error { return within(&s.route, store(s, 4<<20)) }, ok},
		{"watch of 20 events", 10, func(s *settings) error { return within(&s.route, watched(s)) }, ok},
		{"websocket echo", 5, func(s *settings) error { return within(&s.route, echo(s, "websocket")) }, ok},
		{"SPDY echo", 5, func(s *settings) error { return within(&s.route, echo(s, "SPDY/3.1")) }, ok},
	}
}

func twenty(s *settings) func(*conn) error {
	return func(c *conn) error {
		for range 20 {
			if err := smallGet(c, s.route.request("GET", "/pods/small", "")); err != nil {
				return err
			}
		}
		return nil
	}
}

func fetch(s *settings, size int64) func(*conn) error {
	return func(c *conn) error {
		response, err := c.get(s.route.request("GET", fmt.Sprintf("/pods/small/log?bytes=%d&chunked=1", size), ""))
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, response.Body)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes instead of %d", n, size)
		}
		return err
	}
}

func store(s *settings, size int64) func(*conn) error {
	return func(c *conn) error {
		head := s.route.request("PUT", "/configmaps/big", fmt.Sprintf("Content-Length: %d\r\n", size))
		if _, err := sendBody(c, head, size, false); err != nil {
			return err
		}
		return answered(c, http.StatusOK)
	}
}

func answered(c *conn, status int) error {
	response, err := c.response(http.MethodPut)
	if err != nil {
		return err
	}
	if response.StatusCode != status {
		return errors.New("answer " + response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func watched(s *settings) func(*conn) error {
	return func(c *conn) error {
		response, err := c.get(s.route.request("GET", "/pods?watch=1&events=20&every=50ms", ""))
		if err != nil {
			return err
		}
		seen, err := readEvents(response)
		if err == nil && seen.Events != 20 {
			err = fmt.Errorf("%d events instead of 20", seen.Events)
		}
		return err
	}
}

func echo(s *settings, protocol string) func(*conn) error {
	return func(c *conn) error {
		if err := c.upgrade(&s.route, protocol, "echo=1"); err != nil {
			return err
		}
		sent, got := bytes.Repeat([]byte("there and back\n"), 16<<10), make([]byte, 15*16<<10)
		failed := make(chan error, 1)
		go func() {
			_, err := c.Write(sent)
			failed <- err
		}()
		if _, err := io.ReadFull(c.reader, got); err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return errors.New("the echo differs")
		}
		return <-failed
	}
}

func vanish(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}
