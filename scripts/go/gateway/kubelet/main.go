// Command kubelet serves exec as a kubelet does, with the code of its streaming server. It runs the commands itself, so
// that tests of exec need no node.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"
)

const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

type executor struct{}

func (executor) ExecInContainer(
	ctx context.Context, _, _, _ string, command []string, in io.Reader, out, errors io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	run := exec.New().CommandContext(ctx, command[0], command[1:]...)
	run.SetStdin(in)
	run.SetStdout(out)
	run.SetStderr(errors)
	return run.Run()
}

func main() {
	listen := flag.String("listen", "", "HOST:PORT to listen on")
	certificate := flag.String("cert", "", "file of the certificate")
	key := flag.String("key", "", "file of the certificate's key")
	flag.Parse()

	http.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, request *http.Request) {
		options, err := remotecommand.NewOptions(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, request, executor{}, request.PathValue("pod"), "", request.PathValue("container"),
			request.URL.Query()["command"], options, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, nil))
}
