package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/weir-logs/weir/services/agent"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

// runOptions are the flags of an agent that runs.
type runOptions struct {
	file      string
	expand    bool
	dryRun    bool
	inspect   bool
	syntax    bool
	stdin     bool
	version   bool
	print     bool
	logLevel  string
	logFormat string
	override  func(*config.Config)
}

// follow is the program without a command.
func follow(ctx context.Context, p *program, args []string) error {
	o, err := parseRun(p, args)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(p.out, "weir-agent", versionText())
		return nil
	}
	reg := p.registry()
	deps := pipeline.Deps{Metrics: pipeline.NewMetrics(reg), Custom: pipeline.NewCustom(time.Now, reg)}
	if o.inspect {
		deps.Trace = newTracer(p.err).step
	}
	cfg, problems, err := p.load(o, deps)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return fileProblems(o.file, err)
	}
	if o.syntax {
		p.warn(o.file, problems)
		fmt.Fprintln(p.out, "Valid config file! No syntax issues found")
		return nil
	}
	if o.print {
		fmt.Fprintf(p.err, "%s\n", cfg.Raw)
	}
	level, format := cfg.Server.LogLevel, cfg.Server.LogFormat
	if o.logLevel != "" {
		level = o.logLevel
	}
	if o.logFormat != "" {
		format = o.logFormat
	}
	log, err := p.logger(level, format)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		log.Warn("configuration: "+w.Text, "file", o.file, "line", w.Line, "key", w.Path)
	}
	if o.dryRun {
		end, err := p.dryRun(cfg)
		if err != nil {
			return err
		}
		defer end()
	}
	d := agent.Deps{Log: log, Registry: reg, UserAgent: "weir-agent/" + version, Version: version}
	if o.file != "" && !o.dryRun {
		d.Load = func() (*config.Config, error) {
			cfg, problems, err := p.load(o, deps)
			if err == nil {
				err = problems.Err()
			}
			return cfg, err
		}
	}
	a, err := agent.Open(cfg, d)
	if err != nil {
		return err
	}
	defer onHangup(ctx, a, log)()
	return a.Run(ctx)
}

// onHangup reloads on SIGHUP, until the returned function is called.
func onHangup(ctx context.Context, a *agent.Agent, log *slog.Logger) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hups:
				if err := a.Reload(ctx); err != nil && ctx.Err() == nil {
					log.Error("not reloaded", "err", err)
				}
			}
		}
	}()
	return func() { signal.Stop(hups); cancel(); <-done }
}

// load reads the configuration that the flags name.
func (p *program) load(o runOptions, deps pipeline.Deps) (*config.Config, node.Problems, error) {
	var data []byte
	if o.file != "" {
		var err error
		if data, err = os.ReadFile(o.file); err != nil {
			return nil, nil, err
		}
	}
	cfg, problems := config.Load(data, config.Options{
		ExpandEnv: o.expand, Getenv: p.getenv, Deps: deps, Override: o.override, NoPositions: o.stdin,
	})
	return cfg, problems, nil
}

// fileProblems puts the file's name before each problem.
func fileProblems(file string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = file + ": " + l
	}
	return errors.New("Unable to parse config:\n" + strings.Join(lines, "\n"))
}

func (p *program) warn(file string, problems node.Problems) {
	for _, w := range problems.Warnings() {
		fmt.Fprintf(p.err, "%s: warning: %s\n", file, w.Error())
	}
}

func parseRun(p *program, args []string) (o runOptions, err error) {
	fs, help := newFlags(p.out, usage)
	var files string
	for _, name := range []string{"config", "config.file"} {
		fs.StringVar(&files, name, "", "read the configuration from `FILE`; of several, with commas between, the first that there is")
	}
	fs.BoolVar(&o.expand, "config.expand-env", false, "replace ${NAME} in the configuration by environment variables")
	fs.BoolVar(&o.dryRun, "dry-run", false, "print entries instead of sending them, and leave the positions as they are")
	fs.BoolVar(&o.inspect, "inspect", false, "print what each stage changes")
	fs.BoolVar(&o.syntax, "check-syntax", false, "check the configuration and end")
	fs.BoolVar(&o.stdin, "stdin", false, "read the standard input, through the first job's stages, and end with it")
	fs.BoolVar(&o.version, "version", false, "print the version")
	fs.BoolVar(&o.print, "print-config-stderr", false, "print the configuration")
	fs.Bool("log-config-reverse-order", false, "accepted, does nothing")
	for _, name := range []string{"log-level", "log.level"} {
		fs.StringVar(&o.logLevel, name, "", "debug, info, warn or error, over the configuration's (info)")
	}
	fs.StringVar(&o.logFormat, "log.format", "", "logfmt or json, over the configuration's")
	over := overrides(fs)
	if err := fs.Parse(args); err != nil {
		return o, parseError(fs, err, help)
	}
	o.override = func(c *config.Config) {
		if o.stdin {
			c.Target.Stdin = true
		}
		over(c)
	}
	switch {
	case o.version:
		return o, nil
	case fs.NArg() > 0:
		hint := ""
		names := []string{}
		for n := range commands {
			names = append(names, n)
		}
		hint = node.DidYouMean(fs.Arg(0), names)
		return o, usageError{fmt.Errorf("unexpected argument %q%s", fs.Arg(0), hint)}
	case files == "" && !o.stdin:
		return o, usageError{errors.New("--config is missing")}
	case o.logFormat != "" && o.logFormat != "logfmt" && o.logFormat != "json":
		return o, usageError{fmt.Errorf("--log.format: %q is neither logfmt nor json", o.logFormat)}
	}
	o.file, err = firstFile(files)
	return o, err
}

// firstFile gives the first of the files that there is.
func firstFile(list string) (string, error) {
	if list == "" {
		return "", nil
	}
	var first error
	for _, f := range strings.Split(list, ",") {
		_, err := os.Stat(f)
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// overrides defines the flags that change the configuration, and gives what
// applies those that were set.
func overrides(fs *flag.FlagSet) func(*config.Config) {
	def := config.Client{}
	def.SetDefaults()
	var (
		cl       = def
		external string
		changes  []func(*config.Config)
	)
	fs.StringVar(&cl.URL, "client.url", "", "push to this `URL` too, with the other client flags")
	fs.DurationVar(&cl.BatchWait, "client.batch-wait", def.BatchWait, "how old a batch may get")
	fs.IntVar(&cl.BatchSize, "client.batch-size-bytes", def.BatchSize, "how large a batch may get")
	fs.IntVar(&cl.Backoff.MaxRetries, "client.max-retries", def.Backoff.MaxRetries, "accepted; the agent tries for ever")
	fs.DurationVar(&cl.Backoff.Min, "client.min-backoff", def.Backoff.Min, "shortest wait between attempts")
	fs.DurationVar(&cl.Backoff.Max, "client.max-backoff", def.Backoff.Max, "longest wait between attempts")
	fs.DurationVar(&cl.Timeout, "client.timeout", def.Timeout, "how long one attempt may take")
	fs.StringVar(&cl.Tenant, "client.tenant-id", "", "the tenant")
	fs.BoolVar(&cl.DropRateLimited, "client.drop-rate-limited-batches", false, "accepted, does nothing")
	fs.StringVar(&external, "client.external-labels", "", "labels for every client, as `a=1,b=2`; the configuration's win")

	later := func(set func(c *config.Config, v string) error) func(v string) error {
		return func(v string) error {
			var probe config.Config
			if err := set(&probe, v); err != nil {
				return err
			}
			changes = append(changes, func(c *config.Config) { _ = set(c, v) })
			return nil
		}
	}
	configFlags(func(name, about string, set func(c *config.Config, v string) error) {
		fs.Func(name, about, later(set))
	}, func(name, about string, set func(c *config.Config, v string) error) {
		fs.BoolFunc(name, about, later(set))
	})
	return func(c *config.Config) {
		if cl.URL != "" {
			c.Clients = append(c.Clients, cl)
		}
		for _, ch := range changes {
			ch(c)
		}
		if external == "" {
			return
		}
		for _, p := range strings.Split(external, ",") {
			n, v, _ := strings.Cut(p, "=")
			for i := range c.Clients {
				if c.Clients[i].ExternalLabels == nil {
					c.Clients[i].ExternalLabels = map[string]string{}
				}
				if _, there := c.Clients[i].ExternalLabels[n]; !there {
					c.Clients[i].ExternalLabels[n] = v
				}
			}
		}
	}
}
