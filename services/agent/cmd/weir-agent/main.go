// Command weir-agent reads logs where they arise and pushes their lines to Weir,
// or to any server that takes Loki's pushes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// version is set when a release is built.
var version = "dev"

const usage = `weir-agent reads logs where they arise and pushes their lines to Weir, or to any
server that takes Loki's pushes. It reads Promtail's configuration as it is.

Usage:
  weir-agent --config FILE [flags]        run
  weir-agent tail [flags] FILE...         follow files as tail -F does
  weir-agent check FILE...                explain every problem of a configuration
  weir-agent convert FILE                 print a configuration in Weir's spelling
  weir-agent explain --config FILE [--file LOG]
                                          show what the stages do to lines
  weir-agent status [--addr ADDR]         show what a running agent does
  weir-agent healthcheck [--addr ADDR]    0 if a running agent is ready
  weir-agent --version | --help           and COMMAND --help

A configuration in Weir's spelling, here with its defaults (Promtail's keys may
stand in the same file; docs/agent.md has all of both):

  server:
    address: 127.0.0.1:9095   # gRPC, of a Weir server
    tenant: ""                # the server's default
    insecure: false           # true: no TLS off the loopback interface either
    tls: {ca_file: "", cert_file: "", key_file: "", server_name: ""}
    timeout: 15s              # of one attempt
    min_backoff: 100ms        # the waits between attempts
    max_backoff: 30s
  clients: []                 # more servers: [{address: HOST:9095}, {url: http://HOST/loki/api/v1/push}]
  external_labels: {}         # on every stream
  filename_label: filename    # "": none
  positions:
    file: PATH                # required; the queue lies beside it
    save_interval: 10s
  files:
    - paths: [/var/log/**/*.log]
      exclude: []
      labels: {app: shop}
      start: beginning        # or end: where to begin with files not seen before
      stages: []              # json, regex, labels, multiline, drop, ...
  docker: []                  # [{}]: all containers of this host
  kubernetes: []              # [{}]: all pods of this node
  journal: []                 # [{}]: systemd's journal
  syslog: []                  # [{listen: ":1514"}]
  push: []                    # [{listen: ":3500"}]: Loki's push API
  otlp: []                    # [{listen: ":4318"}]
  gelf: []                    # [{listen: ":12201"}]
  queue: {max_bytes: 1GiB, max_age: 0s, when_full: block}
  batch: {max_bytes: 1MiB, max_wait: 1s, max_pending: 8}
  read: {max_line: 256KiB, poll_interval: 100ms, scan_interval: 5s,
         rotate_grace: 5s, partial_wait: 5s, no_events: false, max_open_files: 0}
  listen: 127.0.0.1:9080      # pages, /metrics, /ready; "": nowhere
  shutdown_timeout: 10s

SIGHUP reads the configuration again. On SIGTERM or SIGINT the agent sends what
it has read, saves its positions and exits with 0.

Flags, which may be written -flag too:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is what commands are given.
type program struct {
	getenv   func(string) string
	out, err io.Writer
	in       io.Reader
}

// command is a word in front and what it does.
type command func(ctx context.Context, p *program, args []string) error

var commands = map[string]command{
	"tail": tail, "check": check, "convert": convert, "explain": explain, "status": showStatus, "healthcheck": healthcheck,
}

// errFailed is a failure that was told already.
var errFailed = errors.New("failed")

// run is the program: 0 all went well, 1 it failed, 2 it was called wrongly.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	p := &program{getenv: getenv, out: stdout, err: stderr, in: os.Stdin}
	do := follow
	if len(args) > 0 {
		if c := commands[args[0]]; c != nil {
			do, args = c, args[1:]
		}
	}
	err := do(ctx, p, args)
	var ue usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errFailed):
		return 1
	case errors.As(err, &ue):
		err = fmt.Errorf("%w (see --help)", err)
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintln(stderr, "weir-agent:", line)
	}
	if ue.error != nil {
		return 2
	}
	return 1
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (p *program) logger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level: %q is none of debug, info, warn, error", level)}
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(p.err, o)), nil
	}
	return slog.New(slog.NewTextHandler(p.err, o)), nil
}

func (p *program) registry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
