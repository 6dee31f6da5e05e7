// Command weir-agent follows log files and pushes their lines to a Weir server.
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
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weir-logs/weir/services/agent"
)

// version is set when a release is built.
var version = "dev"

const usage = `weir-agent follows log files and pushes their lines to a Weir server.

Usage:
  weir-agent --config FILE [--listen ADDR] [--log-level LEVEL]
  weir-agent tail [flags] FILE...
  weir-agent --version | --help

The first form takes all from a YAML file, here with its defaults:

  server:
    address: 127.0.0.1:9095
    tenant: ""                # the server's default
    insecure: false           # true: no TLS off the loopback interface either
    tls: {ca_file: "", cert_file: "", key_file: "", server_name: ""}
    timeout: 15s              # of one attempt
    min_backoff: 100ms        # the waits between attempts
    max_backoff: 30s
  external_labels: {}         # on every stream
  filename_label: filename    # "": none
  positions:
    file: PATH                # required; a journal lies beside it
    save_interval: 10s
  files:                      # required
    - paths: [/var/log/**/*.log]
      exclude: []
      labels: {app: shop}
      start: beginning        # or end: where to begin with files not seen before
  batch: {max_bytes: 1MiB, max_wait: 1s, max_pending: 8}
  read: {max_line: 256KiB, poll_interval: 100ms, scan_interval: 5s,
         rotate_grace: 5s, partial_wait: 5s, no_events: false}
  listen: 127.0.0.1:9080      # /metrics and /ready; "": nowhere
  shutdown_timeout: 10s

The second form follows files as tail -F does, from their end, without a
configuration; see weir-agent tail --help.

On SIGTERM or SIGINT the agent sends what it has read, saves its positions and
exits with 0.

Flags:
`

const tailUsage = `weir-agent tail follows files, existing or not yet, as tail -F does, and pushes
their lines. FILE may be a pattern (quote it) with * ? [] {a,b} and **.

It begins at the end of the files that are there, and at the beginning of those
that come later. With --positions it remembers how far it came, and goes on there
the next time; without, nothing is kept on disk.

Usage:
  weir-agent tail [flags] FILE...

Example:
  weir-agent tail /var/log/nginx/access.log --label app=nginx

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: 0 all went well, 1 it failed, 2 it was called wrongly.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintln(stderr, "weir-agent:", line)
		}
		return code
	}
	parse := parseMain
	if len(args) > 0 && args[0] == "tail" {
		parse, args = parseTail, args[1:]
	}
	o, err := parse(args, getenv, stdout)
	var ue usageError
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &ue):
		return fail(2, fmt.Errorf("%w (see --help)", err))
	case err != nil:
		return fail(1, err)
	case o.version:
		fmt.Fprintln(stdout, "weir-agent", versionText())
		return 0
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fail(2, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", o.logLevel))
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	a, err := agent.New(o.cfg, agent.Deps{Log: log, Registry: reg, UserAgent: "weir-agent/" + version})
	if err != nil {
		return fail(1, err)
	}
	if err := a.Run(ctx); err != nil {
		return fail(1, err)
	}
	return 0
}

// options is what the command line asks for.
type options struct {
	cfg      agent.Config
	logLevel string
	version  bool
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func parseMain(args []string, _ func(string) string, stdout io.Writer) (o options, err error) {
	fs, help := newFlags(stdout, usage)
	file := fs.String("config", "", "read the configuration from `FILE`")
	listen := fs.String("listen", "", "serve /metrics and /ready on `ADDR`, over the configuration's")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&o.version, "version", false, "print the version")
	if err := fs.Parse(args); err != nil {
		return o, parseError(err, help)
	}
	switch {
	case o.version:
		return o, nil
	case fs.NArg() > 0:
		return o, usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	case *file == "":
		return o, usageError{errors.New("--config is missing")}
	}
	data, err := os.ReadFile(*file)
	if err != nil {
		return o, err
	}
	if o.cfg, err = agent.ParseConfig(data); err != nil {
		var lines []string
		for _, l := range strings.Split(err.Error(), "\n") {
			lines = append(lines, *file+": "+l)
		}
		return o, errors.New(strings.Join(lines, "\n"))
	}
	if *listen != "" {
		o.cfg.Listen = *listen
	}
	return o, nil
}

func parseTail(args []string, getenv func(string) string, stdout io.Writer) (o options, err error) {
	fs, help := newFlags(stdout, tailUsage)
	o.cfg = agent.DefaultConfig()
	server := o.cfg.Server.Address
	if v := getenv("WEIR_ADDR"); v != "" {
		server = v
	}
	labels := labelFlag{}
	fs.Var(labels, "label", "label of the streams, as `NAME=VALUE`; may be repeated")
	fs.StringVar(&o.cfg.Server.Address, "server", server, "the server's gRPC `ADDR`; also from WEIR_ADDR")
	fs.StringVar(&o.cfg.Server.Tenant, "tenant", "", "the tenant `NAME`")
	fs.BoolVar(&o.cfg.Server.Insecure, "insecure", false, "no TLS off the loopback interface either")
	fs.StringVar(&o.cfg.FilenameLabel, "filename-label", o.cfg.FilenameLabel, "the label that gets the file's path; empty: none")
	fs.StringVar(&o.cfg.Positions.File, "positions", "", "remember in `FILE` how far files were sent")
	fromStart := fs.Bool("from-start", false, "begin at the beginning of files that are there")
	fs.StringVar(&o.cfg.Listen, "listen", "", "serve /metrics and /ready on `ADDR`")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	var files []string
	for rest := args; ; {
		if err := fs.Parse(rest); err != nil {
			return o, parseError(err, help)
		}
		// Flags may come behind files; behind -- nothing is a flag.
		if n := len(rest) - fs.NArg(); n > 0 && rest[n-1] == "--" {
			files = append(files, fs.Args()...)
			break
		}
		if fs.NArg() == 0 {
			break
		}
		files = append(files, fs.Arg(0))
		rest = fs.Args()[1:]
	}
	if len(files) == 0 {
		return o, usageError{errors.New("no file is named")}
	}
	start := "end"
	if *fromStart {
		start = "beginning"
	}
	o.cfg.Files = []agent.FilesConfig{{Paths: files, Labels: labels, Start: start}}
	if err := o.cfg.Validate(); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func newFlags(stdout io.Writer, text string) (*flag.FlagSet, func()) {
	fs := flag.NewFlagSet("weir-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {} // for a mistake: the error says enough
	help := func() {
		fmt.Fprint(stdout, text)
		fs.VisitAll(func(f *flag.Flag) {
			name, about := flag.UnquoteUsage(f)
			if name != "" {
				name = " " + name
			}
			def := ""
			if f.DefValue != "" && f.DefValue != "false" {
				def = fmt.Sprintf(" (default %s)", f.DefValue)
			}
			fmt.Fprintf(stdout, "  --%-22s %s%s\n", f.Name+name, about, def)
		})
	}
	return fs, help
}

// parseError tells a call for help, which it answers, from a mistake.
func parseError(err error, help func()) error {
	if errors.Is(err, flag.ErrHelp) {
		help()
		return err
	}
	return usageError{err}
}

// labelFlag collects NAME=VALUE.
type labelFlag map[string]string

func (l labelFlag) String() string { return "" }

func (l labelFlag) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("not NAME=VALUE")
	}
	if _, twice := l[name]; twice {
		return fmt.Errorf("label %s twice", name)
	}
	l[name] = value
	return nil
}

func versionText() string {
	text := version
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				text += " " + s.Value
			}
		}
		text += " " + info.GoVersion
	}
	return text
}
