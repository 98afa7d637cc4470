// Command gateway serves an API server below a path, as a platform's gateway does. Upgrades pass.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	listen := flag.String("listen", "", "HOST:PORT to listen on")
	certificate := flag.String("cert", "", "file of the certificate")
	key := flag.String("key", "", "file of the certificate's key")
	prefix := flag.String("prefix", "", "path below which the API server is")
	target := flag.String("target", "", "URL of the API server")
	ca := flag.String("ca", "", "file of the API server's CA")
	flag.Parse()

	to, err := url.Parse(*target)
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatalf("%s: no certificate", *ca)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(to) },
		// An upgrade needs HTTP/1.1.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}},
		FlushInterval: -1,
	}
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, http.StripPrefix(*prefix, proxy)))
}
