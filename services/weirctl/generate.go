package weirctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/weir-logs/weir/libs/shopgen"
)

type generateOptions struct {
	flags         *pflag.FlagSet
	server        server
	dir           string
	push          bool
	rate          float64
	lasts         duration
	since         duration
	seed          uint64
	services      []string
	rotate        byteSize
	keep          int
	incidentEvery duration
	incidentFor   duration
}

func generateCommand(env *Env) *command {
	o := &generateOptions{incidentEvery: duration(shopgen.DefaultIncidentEvery), incidentFor: duration(shopgen.DefaultIncidentFor)}
	fs := pflag.NewFlagSet("generate", pflag.ContinueOnError)
	o.flags = fs
	fs.StringVar(&o.dir, "to-files", "", "append to files in this directory, one for each service and host")
	fs.BoolVar(&o.push, "push", false, "push to the server")
	fs.Float64Var(&o.rate, "rate", 50, "mean entries per second, over all services")
	fs.Var(&o.lasts, "for", "stop after this time; 0: when interrupted")
	fs.Var(&o.since, "since", "begin this long ago: write what would have been logged since at once, then go on live")
	fs.Uint64Var(&o.seed, "seed", 1, "which of the possible histories")
	fs.StringSliceVar(&o.services, "services", nil, "only these, of "+strings.Join(shopgen.Services(), ", "))
	fs.Var(&o.rotate, "rotate-size", "files: rename one that has grown to this size, such as 10MB, and begin anew; 0: never")
	fs.IntVar(&o.keep, "rotate-keep", 5, "files: how many renamed files to keep, as NAME.1, NAME.2, …")
	fs.Var(&o.incidentEvery, "incident-every", "time from the start of an incident to the next, the first after a third of it; 0: no incidents")
	fs.Var(&o.incidentFor, "incident-for", "how long an incident lasts, recovery included")
	o.server.register(fs, env, time.Minute, "push: how long to try to store a batch")
	return &command{
		name: "generate", nargs: [2]int{0, 0}, flags: fs,
		short: "write believable logs of a small shop",
		long: `Write the logs of a small shop that does not exist, live: an access log (gateway),
services in JSON and logfmt whose trace ids correlate (catalog, checkout,
payments), a Java service with stack traces (inventory), and a chatty syslog.
Now and then the payments database dies for a while, and it shows everywhere.
Streams have the labels app, env and host. A stack trace is one entry when it is
pushed, and its lines in a file.`,
		examples: []string{
			"Into files, for an agent to follow, until interrupted\ngenerate --to-files /tmp/shop --rate 100 --rotate-size 10MB",
			"Straight to a server, with an hour of history\ngenerate --push --since 1h",
			"A load of 20,000 entries a second for a minute\ngenerate --push --rate 20000 --for 1m --incident-every 0",
		},
		run: func(ctx context.Context, _ []string) error { return o.run(ctx, env) },
	}
}

func (o *generateOptions) run(ctx context.Context, env *Env) error {
	if o.push == (o.dir != "") {
		return usagef("generate needs either --to-files DIR or --push")
	}
	if o.keep < 1 {
		return usagef("--rotate-keep must be at least 1")
	}
	began := env.Now()
	cfg := shopgen.Config{
		Seed: o.seed, Start: began.Add(-time.Duration(o.since)), Rate: o.rate, Services: o.services,
		IncidentEvery: time.Duration(o.incidentEvery), IncidentFor: time.Duration(o.incidentFor),
	}
	switch {
	case o.incidentEvery == 0:
		cfg.IncidentEvery = -1
	case cfg.IncidentFor >= cfg.IncidentEvery:
		if o.flags.Changed("incident-for") {
			return usagef("--incident-for must be shorter than --incident-every")
		}
		cfg.IncidentFor = cfg.IncidentEvery / 2
	}
	gen, err := shopgen.New(cfg)
	if err != nil {
		return usageError{strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	dest, err := o.open(env, gen.Streams())
	if err != nil {
		return err
	}
	l := &live{gen: gen, dest: dest, now: env.Now, tick: o.tick()}
	if o.lasts > 0 {
		l.end = began.Add(time.Duration(o.lasts))
	}
	err = l.run(ctx)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if cerr := dest.close(stopping); err == nil {
		err = cerr
	}
	o.summarise(env, dest, env.Now().Sub(began))
	if err != nil {
		return o.server.translate(err, "")
	}
	if dest.refused() > 0 {
		return errReported
	}
	return nil
}

func (o *generateOptions) open(env *Env, streams []shopgen.Stream) (destination, error) {
	if o.push {
		c, err := o.server.dial()
		if err != nil {
			return nil, err
		}
		return newPushDestination(env, &o.server, c, streams), nil
	}
	return newFileDestination(o.dir, int64(o.rotate), o.keep, streams)
}

// tick is how often live entries are handed on: readers of files should see
// them as they are written, a server should get batches.
func (o *generateOptions) tick() time.Duration {
	if o.push {
		return 200 * time.Millisecond
	}
	return 20 * time.Millisecond
}

func (o *generateOptions) summarise(env *Env, d destination, took time.Duration) {
	stored, bytes := d.stored()
	text := fmt.Sprintf("%s entries (%s)", formatCount(stored), formatBytes(bytes))
	if o.push {
		text += " stored at " + o.server.addr
	} else {
		text += " written to " + o.dir
	}
	text += fmt.Sprintf(" in %s", took.Round(time.Millisecond))
	if took > 0 {
		text += fmt.Sprintf(", %.0f a second", float64(stored)/took.Seconds())
	}
	if n := d.refused(); n > 0 {
		text += fmt.Sprintf(", %s refused", formatCount(n))
	}
	fmt.Fprintln(env.Stderr, text)
}

// destination takes generated records.
type destination interface {
	// write takes one record. It may block while the destination is busy.
	write(context.Context, shopgen.Record) error
	// flush hands on what was taken.
	flush(context.Context) error
	// close flushes, waits until all is in place and ends the destination.
	close(context.Context) error
	// stored is how many records are in place, and the bytes of their lines.
	stored() (records, bytes uint64)
	// refused is how many records the destination would not take.
	refused() uint64
}

// live takes records from a generator as their time comes.
type live struct {
	gen  *shopgen.Generator
	dest destination
	now  func() time.Time
	tick time.Duration
	end  time.Time // zero: never
}

// run returns nil at the end, and when ctx is done.
func (l *live) run(ctx context.Context) error {
	next := l.gen.Next()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := l.now()
		until := now
		if !l.end.IsZero() && until.After(l.end) {
			until = l.end
		}
		for due := until.UnixNano(); next.Time <= due; next = l.gen.Next() {
			if ctx.Err() != nil {
				return nil
			}
			if err := l.dest.write(ctx, next); err != nil {
				return l.stopped(ctx, err)
			}
		}
		if err := l.dest.flush(ctx); err != nil {
			return l.stopped(ctx, err)
		}
		if !l.end.IsZero() && !now.Before(l.end) {
			return nil
		}
		wait := max(l.tick, time.Unix(0, next.Time).Sub(now))
		if !l.end.IsZero() {
			wait = min(wait, l.end.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// stopped tells an interruption from a failure.
func (l *live) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// byteSize is a flag for sizes: 500, 64KiB, 10MB.
type byteSize int64

var byteUnits = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
}

func (b *byteSize) Type() string { return "size" }

func (b *byteSize) String() string {
	if *b == 0 {
		return "0"
	}
	return formatBytes(uint64(*b))
}

func (b *byteSize) Set(text string) error {
	i := slices.IndexFunc(byteUnits, func(u struct {
		name string
		size float64
	}) bool {
		return strings.HasSuffix(text, u.name)
	})
	var n float64
	number := strings.TrimSpace(strings.TrimSuffix(text, byteUnits[i].name))
	if _, err := fmt.Sscanf(number+"\n", "%g\n", &n); err != nil || n < 0 || n*byteUnits[i].size > 1e15 {
		return fmt.Errorf("cannot read %q as a size: write it like 500kB, 64KiB, 10MB", text)
	}
	*b = byteSize(n * byteUnits[i].size)
	return nil
}
