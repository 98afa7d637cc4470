package main

import (
	"bench/internal/slow"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	namespace  = "/api/v1/namespaces/bench"
	pieceBytes = 64 << 10
)

var (
	piece = bytes.Repeat([]byte("a line of a log that nobody reads.........................end.\n"), pieceBytes/64)
	pod   = smallPod()
)

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+namespace+"/pods/small", small)
	mux.HandleFunc("GET "+namespace+"/pods/small/log", download)
	mux.HandleFunc("PUT "+namespace+"/configmaps/big", upload)
	mux.HandleFunc("GET "+namespace+"/pods", watch)
	mux.HandleFunc("GET "+namespace+"/pods/small/exec", exec)
	mux.HandleFunc("GET "+namespace+"/pods/faulty", fault)
	return mux
}

// smallPod is a valid Pod of 1 kB.
func smallPod() []byte {
	object := map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": map[string]any{
		"name": "small", "namespace": "bench", "annotations": map[string]string{"pad": string(piece[:850])}}}
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return append(body, '\n')
}

func number(r *http.Request, name string) int64 {
	n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	return n
}

func span(r *http.Request, name string) time.Duration {
	d, _ := time.ParseDuration(r.URL.Query().Get(name))
	return d
}

func small(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(pod)))
	_, _ = w.Write(pod)
}

// download sends ?bytes=N with a Content-Length, or chunked with ?chunked=1.
func download(w http.ResponseWriter, r *http.Request) {
	left := number(r, "bytes")
	w.Header().Set("Content-Type", "text/plain")
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	}
	_ = pour(w, left)
}

func pour(w io.Writer, left int64) error {
	for left > 0 {
		n := min(left, int64(len(piece)))
		if _, err := w.Write(piece[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// discard hides io.Discard's ReadFrom, so that the buffer is the one that was chosen.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// upload reads the body, ?rate= bytes a second after ?pause=, and answers how much it was.
func upload(w http.ResponseWriter, r *http.Request) {
	body := &slow.Reader{Source: r.Body, Rate: number(r, "rate"), Pause: span(r, "pause")}
	n, err := io.CopyBuffer(discard{}, body, make([]byte, pieceBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "{\"bytes\":%d}\n", n)
}

// watch sends ?events=N numbered events (0: one, then silence for ever), ?every= apart, each in a chunk of its own.
func watch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events back
	events, every := number(r, "events"), span(r, "every")
	controller := http.NewResponseController(w)
	for i := int64(1); i <= max(events, 1); i++ {
		line := fmt.Sprintf("{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"%d\"},\"pad\":%q}}\n",
			i, piece[:200])
		if _, err := io.WriteString(w, line); err != nil || controller.Flush() != nil {
			return
		}
		if every > 0 {
			select {
			case <-time.After(every):
			case <-r.Context().Done():
				return
			}
		}
	}
	if events == 0 {
		<-r.Context().Done()
	}
}
