package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	namespace   = "/api/v1/namespaces/bench"
	dialTimeout = 60 * time.Second
)

// A route leads to the target: by CONNECT through a proxy, or straight.
type route struct {
	proxy, target, auth string
	// Straight, the caller says who they are in each request; prefix is what stands before its path.
	bearer, prefix string
	config         *tls.Config
}

// A refusal is the proxy's answer to CONNECT when it is not 200.
type refusal struct{ status string }

func (r refusal) Error() string { return "CONNECT: " + r.status }

type conn struct {
	*tls.Conn
	reader *bufio.Reader
}

func (r *route) trust(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + file)
	}
	host, _, err := net.SplitHostPort(r.target)
	r.config = &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"http/1.1"}}
	return err
}

func (r *route) tcp() (net.Conn, error) {
	address := r.proxy
	if address == "" {
		address = r.target
	}
	raw, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return raw, raw.SetDeadline(time.Now().Add(dialTimeout))
}

// connect asks the proxy for a tunnel, where there is a proxy.
func (r *route) connect() (net.Conn, error) {
	raw, err := r.tcp()
	if err != nil || r.proxy == "" {
		return raw, err
	}
	auth := ""
	if r.auth != "" {
		auth = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(r.auth)) + "\r\n"
	}
	_, err = fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n%s\r\n", r.target, auth)
	if err == nil {
		var response *http.Response
		response, err = http.ReadResponse(bufio.NewReaderSize(raw, 4<<10), &http.Request{Method: "CONNECT"})
		if err == nil && response.StatusCode != http.StatusOK {
			err = refusal{response.Status}
		}
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return raw, nil
}

// dial connects and shakes hands; buffer is the size of the reader in bytes.
func (r *route) dial(buffer int) (*conn, error) {
	raw, err := r.connect()
	if err != nil {
		return nil, err
	}
	tunnel := tls.Client(raw, r.config)
	if err := tunnel.Handshake(); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return &conn{tunnel, bufio.NewReaderSize(tunnel, buffer)}, raw.SetDeadline(time.Time{})
}

func (r *route) request(method, path, headers string) []byte {
	return fmt.Appendf(nil, "%s %s%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: application/json\r\n"+
		"Authorization: Bearer %s\r\n%s\r\n", method, r.prefix, namespace, path, r.target, r.bearer, headers)
}

func (c *conn) response(method string) (*http.Response, error) {
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	return response, nil
}

// get sends a prepared GET and expects 200.
func (c *conn) get(request []byte) (*http.Response, error) {
	if _, err := c.Write(request); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	response, err := c.response(http.MethodGet)
	if err == nil && response.StatusCode != http.StatusOK {
		return nil, errors.New("answer " + response.Status)
	}
	return response, err
}
