package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"time"
)

// rude clients leave without a word, say nothing, talk nonsense, or ask for what they may not have.
func rude() []action {
	return []action{
		{"client vanishes in a download", 4, leaving(func(s *settings, c *conn) error {
			_, err := c.get(s.route.request("GET", "/pods/small/log?bytes=100000000", ""))
			return err
		}), ok},
		{"client vanishes in an upload", 4, leaving(func(s *settings, c *conn) error {
			_, err := sendBody(c, s.route.request("PUT", "/configmaps/big", "Content-Length: 1000000\r\n"), 500_000, false)
			return err
		}), ok},
		{"client vanishes in a silent watch", 4, leaving(func(s *settings, c *conn) error {
			_, err := c.get(s.route.request("GET", "/pods?watch=1&events=0", ""))
			return err
		}), ok},
		{"client vanishes while the target stalls", 4, leaving(func(s *settings, c *conn) error {
			_, err := c.Write(s.route.request("GET", "/pods/faulty?kind=stall", ""))
			time.Sleep(time.Second)
			return err
		}), ok},
		{"client vanishes in TLS", 3, raw(func(c net.Conn) error {
			_, err := c.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half a ClientHello"))
			vanish(c)
			return err
		}), ok},
		{"garbage instead of TLS", 3, raw(nonsense), []string{"closed"}},
		{"silence in the tunnel", 1, raw(untilClosed), []string{"closed"}},
		{"silence", 1, silence, []string{"closed"}},
		{"garbage instead of HTTP", 3, garbage, []string{"closed"}},
		{"wrong token", 3, stranger, []string{"CONNECT 407"}},
		{"another host", 3, elsewhere, []string{"CONNECT 403"}},
		{"refused upload", 3, refusedUpload, []string{"answer 403", "closed"}},
	}
}

// leaving opens a tunnel, lets use do something in it and drops the connection without a farewell.
func leaving(use func(*settings, *conn) error) func(*settings) error {
	return func(s *settings) error {
		return within(&s.route, func(c *conn) error {
			err := use(s, c)
			vanish(c.NetConn())
			return err
		})
	}
}

func raw(use func(net.Conn) error) func(*settings) error {
	return func(s *settings) error {
		c, err := s.route.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		return use(c)
	}
}

func nonsense(c net.Conn) error {
	if _, err := c.Write(bytes.Repeat([]byte("no TLS at all\r\n"), 40)); err != nil {
		return err
	}
	return untilClosed(c)
}

func untilClosed(c net.Conn) error {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	return io.EOF
}

func silence(s *settings) error {
	c, err := s.route.tcp()
	if err != nil {
		return err
	}
	defer c.Close()
	return untilClosed(c)
}

func garbage(s *settings) error {
	c, err := s.route.tcp()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "\x00\x01\x02 nothing that is HTTP\r\n\r\n"); err != nil {
		return err
	}
	return untilClosed(c)
}

func stranger(s *settings) error {
	r := s.route
	r.auth += "x"
	return within(&r, func(*conn) error { return nil })
}

func elsewhere(s *settings) error {
	r := s.route
	r.target = s.denied
	return within(&r, func(*conn) error { return nil })
}

func refusedUpload(s *settings) error {
	return within(&s.route, func(c *conn) error {
		head := s.route.request("PUT", "/configmaps/big", "Content-Length: 4194304\r\nImpersonate-User: root\r\n")
		if _, err := sendBody(c, head, 4<<20, false); err != nil {
			return err
		}
		return answered(c, http.StatusOK)
	})
}
