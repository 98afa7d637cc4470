package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

const websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3

// exec upgrades to WebSocket or SPDY/3.1 and sends ?bytes=N of output in frames of that protocol;
// with ?echo=1 it sends back what it gets, byte for byte.
func exec(w http.ResponseWriter, r *http.Request) {
	protocol := r.Header.Get("Upgrade")
	var extra string
	switch {
	case strings.EqualFold(protocol, "websocket"):
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + websocketGUID))
		extra = "Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) +
			"\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
	case strings.EqualFold(protocol, "SPDY/3.1"):
		extra = "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
	default:
		http.Error(w, "upgrade to websocket or SPDY/3.1 is required", http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n%s\r\n", protocol, extra)
	if err != nil {
		return
	}
	if number(r, "echo") > 0 {
		_, _ = io.Copy(conn, buffered)
		return
	}
	if sendFrames(conn, strings.EqualFold(protocol, "websocket"), number(r, "bytes")) == nil {
		_, _ = io.Copy(io.Discard, buffered)
	}
}

func sendFrames(conn net.Conn, websocket bool, left int64) error {
	out := bufio.NewWriterSize(conn, pieceBytes+16)
	for left > 0 {
		n := min(left, 32<<10)
		if _, err := out.Write(frameHead(websocket, uint32(n))); err != nil {
			return err
		}
		if _, err := out.Write(piece[:n]); err != nil {
			return err
		}
		left -= n
	}
	return out.Flush()
}

// frameHead is a binary WebSocket frame (RFC 6455, 5.2) or a SPDY/3.1 data frame of stream 5, both without flags.
func frameHead(websocket bool, n uint32) []byte {
	if websocket {
		return binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(n))
	}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 5), n)
}
