// Command load drives a proxy with CONNECT tunnels, or a TLS server directly, and prints what it saw as JSON.
//
//	load [flags] warm|fresh|down|up|idle|watch|exec|soak
//
// It first makes its connections and prints "ready"; it starts to measure when it reads a line on its standard input,
// prints one JSON object, and closes its connections when it reads another line. So whoever runs it can read the
// proxy's CPU time and memory exactly around what is measured. Credentials of the caller come in $BENCH_PROXY_AUTH, a token
// for the requests themselves in $BENCH_BEARER.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"syscall"
	"time"
)

type settings struct {
	route    route
	clients  int
	duration time.Duration
	bytes    int64
	rate     int64
	pace     int64
	pause    time.Duration
	timeout  time.Duration
	query    string
	protocol string
	header   string
	chunked  bool
	faulty   string
	denied   string
}

// A mode makes its connections, then returns the function that is measured.
type mode func(*settings) (measure func() (any, error), err error)

var modes = map[string]mode{
	"warm": warm, "fresh": fresh, "down": down, "up": up, "idle": idle, "watch": watch, "exec": exec, "soak": soak,
}

func parse() (*settings, mode) {
	s := &settings{}
	flag.StringVar(&s.route.proxy, "proxy", "", "host:port of the proxy; empty: TLS to -target directly")
	flag.StringVar(&s.route.target, "target", "", "host:port for CONNECT, or of the TLS server")
	flag.StringVar(&s.route.prefix, "prefix", "", "what stands before the path of each request")
	ca := flag.String("ca", "", "PEM file: who signs the certificate that the client sees")
	flag.IntVar(&s.clients, "clients", 1, "concurrent connections")
	flag.DurationVar(&s.duration, "duration", 3*time.Second, "for warm, fresh and soak")
	flag.Int64Var(&s.bytes, "bytes", 100<<20, "for down, up and exec")
	flag.Int64Var(&s.rate, "rate", 0, "bytes a second that the client reads (down, exec) or the target (up); 0: all it gets")
	flag.Int64Var(&s.pace, "pace", 0, "for warm: requests a second of all clients, at even intervals; 0: as fast as answers come")
	flag.DurationVar(&s.pause, "pause", 0, "the slow side reads nothing for so long at first")
	flag.DurationVar(&s.timeout, "timeout", 0, "for up: leave after so long; 0: wait for the answer")
	flag.StringVar(&s.query, "query", "events=0", "for idle and watch: what is asked of the target")
	flag.StringVar(&s.protocol, "protocol", "websocket", "for exec: websocket or SPDY/3.1")
	flag.StringVar(&s.header, "header", "", "one more request header, for up")
	flag.BoolVar(&s.chunked, "chunked", false, "up without a Content-Length")
	flag.StringVar(&s.faulty, "faulty", "", "for soak: host:port of a target that fails TLS (its caller: $BENCH_FAULTY_AUTH)")
	flag.StringVar(&s.denied, "denied", "", "for soak: host:port that the caller may not reach")
	flag.Parse()
	m := modes[flag.Arg(0)]
	if m == nil {
		log.Fatalf("unknown mode %q", flag.Arg(0))
	}
	s.route.auth = os.Getenv("BENCH_PROXY_AUTH")
	if s.route.bearer = os.Getenv("BENCH_BEARER"); s.route.bearer == "" {
		s.route.bearer = "fake-token"
	}
	if err := s.route.trust(*ca); err != nil {
		log.Fatal(err)
	}
	return s, m
}

func main() {
	log.SetFlags(0)
	s, m := parse()
	measure, err := m(s)
	if err != nil {
		log.Fatal(err)
	}
	stdin := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	if _, err := stdin.ReadString('\n'); err != nil {
		log.Fatal("nobody says go")
	}
	before, start := cpu(), time.Now()
	result, err := measure()
	if err != nil {
		log.Fatal(err)
	}
	report := map[string]any{"seconds": time.Since(start).Seconds(), "client_cpu": cpu() - before, "result": result}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
	_, _ = stdin.ReadString('\n')
}

// cpu is the user and system time of this process in seconds.
func cpu() float64 {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		log.Fatal(err)
	}
	return float64(use.Utime.Nano()+use.Stime.Nano()) / 1e9
}
