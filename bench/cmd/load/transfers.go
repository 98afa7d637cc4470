package main

import (
	"bench/internal/slow"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

type transfer struct {
	Bytes  int64   `json:"bytes"`
	MBps   float64 `json:"mb_per_s"`
	Status int     `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func moved(n int64, start time.Time) transfer {
	return transfer{Bytes: n, MBps: float64(n) / 1e6 / time.Since(start).Seconds()}
}

// each runs one transfer a client at the same time and adds them up.
func each(s *settings, one func(*conn) (int64, error)) (func() (any, error), error) {
	small := s.route.request("GET", "/pods/small", "")
	conns, err := dialAll(&s.route, s.clients, 64<<10, func(c *conn) error { return smallGet(c, small) })
	return func() (any, error) {
		start, done := time.Now(), make(chan error)
		var sizes = make([]int64, len(conns))
		for i, c := range conns {
			go func() {
				n, err := one(c)
				sizes[i] = n
				done <- err
			}()
		}
		var failed error
		for range conns {
			failed = errors.Join(failed, <-done)
		}
		var total int64
		for _, n := range sizes {
			total += n
		}
		return moved(total, start), failed
	}, err
}

// discard hides io.Discard's ReadFrom, so that the buffer is the one that was chosen.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func drain(s *settings, r io.Reader) (int64, error) {
	input := &slow.Reader{Source: r, Rate: s.rate, Pause: s.pause}
	return io.CopyBuffer(discard{}, input, make([]byte, 256<<10))
}

func down(s *settings) (func() (any, error), error) {
	path := fmt.Sprintf("/pods/small/log?bytes=%d", s.bytes)
	if s.chunked {
		path += "&chunked=1"
	}
	request := s.route.request("GET", path, "")
	return each(s, func(c *conn) (int64, error) {
		response, err := c.get(request)
		if err != nil {
			return 0, err
		}
		n, err := drain(s, response.Body)
		if err == nil && n != s.bytes {
			err = fmt.Errorf("%d bytes instead of %d", n, s.bytes)
		}
		return n, err
	})
}

// up sends a body and says how much of it left the client, and what the answer was; it goes on after an early answer.
func up(s *settings) (func() (any, error), error) {
	framing := fmt.Sprintf("Content-Length: %d\r\n", s.bytes)
	if s.chunked {
		framing = "Transfer-Encoding: chunked\r\n"
	}
	if s.header != "" {
		framing += s.header + "\r\n"
	}
	path := fmt.Sprintf("/configmaps/big?rate=%d&pause=%s", s.rate, s.pause)
	c, err := s.route.dial(64 << 10)
	return func() (any, error) {
		start := time.Now()
		if s.timeout > 0 {
			if err := c.SetDeadline(start.Add(s.timeout)); err != nil {
				return nil, err
			}
		}
		status, failure := make(chan int, 1), make(chan string, 1)
		go func() {
			if response, err := c.response(http.MethodPut); err != nil {
				failure <- err.Error()
				status <- 0
			} else {
				_, _ = io.Copy(io.Discard, response.Body)
				failure <- ""
				status <- response.StatusCode
			}
		}()
		n, err := sendBody(c, s.route.request("PUT", path, framing), s.bytes, s.chunked)
		out := transfer{Status: <-status, Error: <-failure}
		if err != nil {
			out.Error = err.Error()
		}
		out.Bytes, out.MBps = n, moved(n, start).MBps
		return out, nil
	}, err
}

func sendBody(c *conn, head []byte, left int64, chunked bool) (int64, error) {
	if _, err := c.Write(head); err != nil {
		return 0, err
	}
	body := bytes.Repeat([]byte("0123456789abcde\n"), 4<<10)
	var sent int64
	for left > 0 {
		data := body[:min(left, int64(len(body)))]
		left, sent = left-int64(len(data)), sent+int64(len(data))
		if chunked {
			data = fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
		}
		if _, err := c.Write(data); err != nil {
			return sent, err
		}
	}
	if chunked {
		_, err := c.Write([]byte("0\r\n\r\n"))
		return sent, err
	}
	return sent, nil
}

// upgrade asks for the protocol and leaves the connection just after the 101.
func (c *conn) upgrade(r *route, protocol, query string) error {
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	headers := "Connection: Upgrade\r\nUpgrade: " + protocol + "\r\n"
	if protocol == "websocket" {
		headers += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n" +
			"Sec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key) + "\r\n"
	} else {
		headers += "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
	}
	if _, err := c.Write(r.request("GET", "/pods/small/exec?"+query, headers)); err != nil {
		return err
	}
	response, err := c.response(http.MethodGet)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("answer " + response.Status)
	}
	return err
}

// exec reads output in WebSocket or SPDY data frames and counts what they carry.
func exec(s *settings) (func() (any, error), error) {
	return each(s, func(c *conn) (int64, error) {
		if err := c.upgrade(&s.route, s.protocol, fmt.Sprintf("bytes=%d", s.bytes)); err != nil {
			return 0, err
		}
		input := &slow.Reader{Source: c.reader, Rate: s.rate, Pause: s.pause}
		var total int64
		for total < s.bytes {
			n, err := readFrame(input, s.protocol == "websocket")
			total += n
			if err != nil {
				return total, err
			}
		}
		return total, nil
	})
}

func readFrame(r io.Reader, websocket bool) (int64, error) {
	head := make([]byte, 8)
	if websocket {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	size := int64(binary.BigEndian.Uint16(head[2:]))
	if !websocket {
		size = int64(binary.BigEndian.Uint32(head[4:]))
	}
	if size == 0 || (websocket && head[0] != 0x82) || (!websocket && head[0] != 0) {
		return 0, fmt.Errorf("not a data frame: %x", head)
	}
	return io.CopyN(io.Discard, r, size)
}
