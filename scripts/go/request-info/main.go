// Command request-info prints how Kubernetes reads requests. It reads lines "METHOD TARGET", and answers each with a line
// of JSON: verb, group, resource, subresource, namespace, name and path, or null if the API
// server refuses it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// The prefixes are those of NewRequestInfoResolver in k8s.io/apiserver, pkg/server/config.go.
var factory = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

func read(method, target string) []string {
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	info, err := factory.NewRequestInfo(&http.Request{Method: method, URL: parsed})
	if err != nil {
		return nil
	}
	return []string{info.Verb, info.APIGroup, info.Resource, info.Subresource, info.Namespace, info.Name, info.Path}
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		method, target, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if err := out.Encode(read(method, target)); err != nil {
			log.Fatal(err)
		}
	}
}
