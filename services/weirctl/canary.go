package weirctl

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"

	"github.com/weir-logs/weir/libs/client/checker"
)

type canaryOptions struct {
	server  server
	format  string
	rate    float64
	streams int
	lasts   duration
	every   duration
	window  duration
	service string
	journal string
	listen  string
	noTail  bool
}

func canaryCommand(env *Env) *command {
	o := &canaryOptions{every: duration(10 * time.Second), window: duration(time.Hour)}
	fs := pflag.NewFlagSet("canary", pflag.ContinueOnError)
	fs.Float64Var(&o.rate, "rate", 20, "entries a second to write, 1 to 10000")
	fs.Var(&o.lasts, "for", "stop after this time; 0: when interrupted")
	fs.Var(&o.every, "every", "time from one look at what was written to the next")
	fs.Var(&o.window, "window", "how long an entry is looked for again and again")
	fs.IntVar(&o.streams, "streams", 10, "streams to write to, 1 to 1000")
	fs.StringVar(&o.service, "service", "weir-canary", "service_name of what is written; nobody else may write that")
	fs.StringVar(&o.journal, "journal", "", "file that keeps what was written and acknowledged, so that the next run goes on with it")
	fs.BoolVar(&o.noTail, "no-tail", false, "do not follow with a live tail")
	fs.StringVar(&o.listen, "metrics-listen", "", "address on which to serve Prometheus metrics, such as 127.0.0.1:9099")
	fs.StringVarP(&o.format, "output", "o", "text", "text or json")
	o.server.register(fs, env, time.Minute, "how long what is missing may take to come before it counts as lost")
	return &command{
		name: "canary", nargs: [2]int{0, 0}, flags: fs,
		short: "prove that a server keeps what it acknowledges",
		long: `Write entries that describe themselves at a low rate, and look at them again and
again: by queries in both directions, page by page, by counts and by a live tail.
What is lost, doubled, reordered, changed, late, or never was written is reported.
The exit code is 1 if a promise was broken, or if nothing could be written or read.

Every run needs a --service of its own, unless it goes on with the --journal of the
one before.`,
		examples: []string{
			"Watch a server until interrupted\ncanary",
			"For ten minutes, 200 entries a second, and a report for a program\ncanary --rate 200 --for 10m -o json",
			"All the time, with metrics, going on after a restart\ncanary --journal /var/lib/weir-canary/journal --metrics-listen 127.0.0.1:9099",
		},
		run: func(ctx context.Context, _ []string) error { return o.run(ctx, env) },
	}
}

func (o *canaryOptions) check() error {
	switch {
	case !(o.rate >= 1 && o.rate <= 10_000): // NaN is neither
		return usagef("--rate must be between 1 and 10000")
	case o.streams < 1 || o.streams > 1000:
		return usagef("--streams must be between 1 and 1000")
	case time.Duration(o.every) < time.Second:
		return usagef("--every must be at least 1s")
	case o.window < 4*o.every:
		return usagef("--window must be at least four times --every")
	case o.service == "":
		return usagef("--service must not be empty")
	case o.server.timeout <= 0:
		return usagef("--timeout must be above 0")
	case o.format != "text" && o.format != "json":
		return usagef("--output %s: there are text and json", o.format)
	}
	return nil
}

func (o *canaryOptions) run(ctx context.Context, env *Env) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	history := &checker.History{}
	if o.journal != "" {
		if history, err = checker.OpenHistory(o.journal); err != nil {
			return fmt.Errorf("--journal: %w", err)
		}
		defer history.Close() //nolint:errcheck // each write was synced
	}
	var latest atomic.Pointer[checker.Report]
	latest.Store(&checker.Report{})
	if o.listen != "" {
		stop, err := serveCanary(o.listen, &latest)
		if err != nil {
			return fmt.Errorf("--metrics-listen: %w", err)
		}
		defer stop()
	}
	c, err := o.server.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // there is nothing in flight
	if err := reachable(ctx, c, checker.Selector(o.service)); err != nil {
		return o.server.translate(err, "")
	}
	if o.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.lasts))
		defer cancel()
	}
	told, broken := time.Now(), 0
	canary := &checker.Canary{
		Client: c, History: history, Service: o.service, Seed: rand.Uint64(), Rate: o.rate, Streams: o.streams,
		Every: time.Duration(o.every), Window: time.Duration(o.window), Wait: time.Duration(o.server.timeout), Tail: !o.noTail,
		Told: func(r checker.Report) {
			latest.Store(&r)
			if o.format == "text" && (r.Broken() > broken || time.Since(told) >= time.Minute) {
				told, broken = time.Now(), r.Broken()
				fmt.Fprintf(env.Stderr, "after %s: %s\n", time.Duration(r.Seconds*1e9).Round(time.Second), r.Verdict)
			}
		},
	}
	return o.tell(env, canary.Run(ctx))
}

// tell writes the final report and returns an error if not all is well.
func (o *canaryOptions) tell(env *Env, r checker.Report) error {
	if o.format == "json" {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "%s\n", b)
	} else {
		fmt.Fprintf(env.Stdout, "requests  %d stored, %d failed, %d sent again; 99 %% within %.3gs, longest gap %.3gs\n",
			r.StoredRequests, r.FailedRequests, r.ResentRequests, r.PushP99, r.LongestGap)
		fmt.Fprintf(env.Stdout, "queries   %d ranges read, %d queries failed; %d entries due by tail, which broke %d times\n",
			r.Reads, r.FailedReads, r.Tailed, r.BrokenTails)
		fmt.Fprintf(env.Stdout, "entries   %s\n", r.Verdict)
		for _, e := range r.Examples {
			fmt.Fprintf(env.Stdout, "          %s\n", e)
		}
	}
	switch {
	case r.Wrong != "":
		return fmt.Errorf("%s", r.Wrong)
	case r.Broken() > 0:
		return errReported
	case r.StoredRequests == 0 || r.Reads == 0:
		return fmt.Errorf("nothing was proved: %d requests stored, %d ranges read; the last error: %s", r.StoredRequests, r.Reads, r.LastError)
	}
	return nil
}

// serveCanary serves the latest report as metrics, until stop is called.
func serveCanary(addr string, latest *atomic.Pointer[checker.Report]) (stop func(), err error) {
	reg := prometheus.NewRegistry()
	count := func(name, help, label, value string, get func(*checker.Report) float64) {
		opts := prometheus.CounterOpts{Name: name, Help: help}
		if label != "" {
			opts.ConstLabels = prometheus.Labels{label: value}
		}
		reg.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return get(latest.Load()) }))
	}
	for promise, get := range map[string]func(*checker.Report) int{
		"lost": func(r *checker.Report) int { return r.Lost }, "stale": func(r *checker.Report) int { return r.Stale },
		"duplicate": func(r *checker.Report) int { return r.Duplicate }, "phantom": func(r *checker.Report) int { return r.Phantom },
		"corrupt": func(r *checker.Report) int { return r.Corrupt }, "reorder": func(r *checker.Report) int { return r.Reorder },
		"differ": func(r *checker.Report) int { return r.Differ }, "short": func(r *checker.Report) int { return r.Short },
		"tail_gap": func(r *checker.Report) int { return r.TailGap }, "tail_twice": func(r *checker.Report) int { return r.TailTwice },
	} {
		count("weir_canary_broken_total", "Broken promises.", "promise", promise, func(r *checker.Report) float64 { return float64(get(r)) })
	}
	count("weir_canary_checked_entries_total", "Acknowledged entries that were looked for.", "", "", func(r *checker.Report) float64 { return float64(r.Acked) })
	count("weir_canary_tailed_entries_total", "Acknowledged entries that a tail had to deliver.", "", "", func(r *checker.Report) float64 { return float64(r.Tailed) })
	count("weir_canary_tail_away_total", "Times that a tail said that an ingester is away that may have entries, which come when it is back.", "", "", func(r *checker.Report) float64 { return float64(r.TailAway) })
	count("weir_canary_pushes_total", "Requests.", "result", "stored", func(r *checker.Report) float64 { return float64(r.StoredRequests) })
	count("weir_canary_pushes_total", "Requests.", "result", "failed", func(r *checker.Report) float64 { return float64(r.FailedRequests) })
	count("weir_canary_reads_total", "Ranges of time that were looked at.", "result", "read", func(r *checker.Report) float64 { return float64(r.Reads) })
	count("weir_canary_reads_total", "Ranges of time that were looked at.", "result", "failed", func(r *checker.Report) float64 { return float64(r.FailedReads) })
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_canary_longest_push_gap_seconds", Help: "Longest time without a stored request."},
		func() float64 { return latest.Load().LongestGap }))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // it ends when it is closed
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}
