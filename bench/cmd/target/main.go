// Command target is the TLS server behind the proxies under test: a small part of a Kubernetes API server.
//
// It answers only requests that carry "Authorization: Bearer $BENCH_TOKEN", so a proxy that does not put the
// credential on the wire measures nothing but 401s. It prints one line "ready HTTPS BLACKHOLE FAULTY", the three
// addresses it listens on, and ends when its standard input is closed.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func main() {
	cert := flag.String("cert", "", "PEM file: certificate and key of the server")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *cert)
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	https, blackhole, faulty := listen(), listen(), listen()
	go acceptOnly(blackhole)
	go acceptFaults(faulty)
	server := &http.Server{
		Handler:  authorized("Bearer "+os.Getenv("BENCH_TOKEN"), routes()),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { log.Fatal(server.Serve(tls.NewListener(https, config))) }()
	fmt.Println("ready", https.Addr(), blackhole.Addr(), faulty.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func authorized(want string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			http.Error(w, "the credential is not the one of the benchmark", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
