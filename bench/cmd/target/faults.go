package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

const stall = 30 * time.Second

// fault misbehaves inside an established TLS connection, as ?kind= says.
func fault(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Query().Get("kind")
	if kind == "stall" {
		select {
		case <-r.Context().Done():
		case <-time.After(stall):
		}
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	switch kind {
	case "garbage":
		_, _ = io.WriteString(conn, "\x00\x01 no HTTP at all \r\n\r\n")
	case "garbage-tls":
		_, _ = conn.(*tls.Conn).NetConn().Write(piece[:300])
	case "cut-short":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.")
	case "cut-chunk":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nten bytes.")
	case "two-lengths":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
	case "unasked-101":
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	case "endless-head":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for i := 0; i < 4096; i++ {
			if _, err := fmt.Fprintf(conn, "X-%d: %s\r\n", i, piece[:60]); err != nil {
				return
			}
		}
	case "reset":
		reset(conn.(*tls.Conn).NetConn())
	}
}

func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// acceptOnly takes connections and never reads or writes.
func acceptOnly(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			time.Sleep(10 * time.Minute)
			_ = conn.Close()
		}()
	}
}

// acceptFaults fails each connection before or during the TLS handshake, in one of four ways.
func acceptFaults(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			switch rand.IntN(4) {
			case 0:
				reset(conn)
			case 1:
				_, _ = conn.Write(piece[:500])
			case 2:
				_, _ = conn.Read(make([]byte, 100))
			case 3:
				_ = conn.SetReadDeadline(time.Now().Add(stall))
				_, _ = io.Copy(io.Discard, conn)
			}
		}()
	}
}
