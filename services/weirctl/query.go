package weirctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// queryTimeout is how long a command waits for answers by default.
const queryTimeout = 2 * time.Minute

type queryOptions struct {
	server   server
	span     span
	out      output
	step     duration
	interval duration
	limit    uint64
	page     uint32
	forward  bool
	instant  bool
	at       string
	partial  bool
	stats    bool
}

func queryCommand(env *Env) *command {
	o := &queryOptions{}
	fs := pflag.NewFlagSet("query", pflag.ContinueOnError)
	o.span.register(fs, env)
	fs.Uint64Var(&o.limit, "limit", 100, "most log entries: the newest, or with --forward the oldest of the range; 0: all (needs --forward)")
	fs.BoolVar(&o.forward, "forward", false, "begin at the start of the range and print entries as they come")
	fs.Var(&o.step, "step", "distance of a metric query's points; 0: the server's choice")
	fs.Var(&o.interval, "interval", "leave out entries that are nearer than this to the one before")
	fs.BoolVar(&o.instant, "instant", false, "evaluate a metric query once, at --at")
	fs.StringVar(&o.at, "at", "now", "the instant of --instant, which it implies; written like --from")
	fs.BoolVar(&o.partial, "partial", false, "take an answer that misses data which cannot be reached")
	fs.BoolVar(&o.stats, "stats", false, "tell on standard error what the query cost")
	fs.Uint32Var(&o.page, "page-size", 5000, "most entries to ask for at a time; the server has a limit")
	o.out.register(fs, true)
	o.server.register(fs, env, queryTimeout, "how long the query may take")
	return &command{
		name: "query", args: "QUERY", nargs: [2]int{1, 1}, flags: fs,
		short: "run a LogQL query",
		long: `Run a LogQL query: a log query prints entries, the newest last, a metric query
its series. On a terminal, what a log line could do to it is made visible
instead; elsewhere lines are written byte for byte.`,
		examples: []string{
			"The last 100 lines of an application\nquery '{app=\"checkout\"}'",
			"Errors between two times, as JSON\nquery '{app=\"payments\"} |= \"error\"' --from 2026-03-01T09:00:00Z --to 2026-03-01T10:00:00Z -o json",
			"A whole day of lines into a file\nquery '{app=\"gateway\"}' --since 24h --forward --limit 0 -o raw > gateway.log",
			"Requests per second, a point a minute\nquery 'sum by (app) (rate({env=\"prod\"}[1m]))' --since 6h --step 1m",
			"Busiest hosts now\nquery 'topk(3, sum by (host) (count_over_time({env=\"prod\"}[5m])))' --instant",
		},
		run: func(ctx context.Context, args []string) error { return o.run(ctx, env, args[0]) },
	}
}

func (o *queryOptions) run(ctx context.Context, env *Env, query string) error {
	if err := o.out.open(env); err != nil {
		return err
	}
	if o.instant || o.span.flags.Changed("at") {
		return o.runInstant(ctx, env, query)
	}
	start, end, err := o.span.bounds()
	if err != nil {
		return err
	}
	switch {
	case o.limit == 0 && !o.forward:
		return usagef("--limit 0 needs --forward: to print the newest last, all entries would have to be kept in memory")
	case o.page == 0:
		return usagef("--page-size must be at least 1")
	}
	req := &queryv1.QueryRangeRequest{
		Query: query, Start: timestamppb.New(start), End: timestamppb.New(end),
		Direction: queryv1.Direction_DIRECTION_BACKWARD, Partial: o.partial,
	}
	if o.forward {
		req.Direction = queryv1.Direction_DIRECTION_FORWARD
	}
	if o.step > 0 {
		req.Step = durationpb.New(time.Duration(o.step))
	}
	if o.interval > 0 {
		req.Interval = durationpb.New(time.Duration(o.interval))
	}
	return o.server.call(ctx, query, func(ctx context.Context, c *client.Client) error {
		return o.stream(ctx, env, c, req)
	})
}

func (o *queryOptions) runInstant(ctx context.Context, env *Env, query string) error {
	at, err := parseTime(o.at, env.Now())
	if err != nil {
		return usagef("--at: %v", err)
	}
	req := &queryv1.QueryRequest{Query: query, Time: timestamppb.New(at), Partial: o.partial}
	return o.server.call(ctx, query, func(ctx context.Context, c *client.Client) error {
		r, err := c.Query(ctx, req)
		if err != nil {
			return err
		}
		if err := o.out.instant(r); err != nil {
			return err
		}
		return o.finish(env, r.GetStatistics(), r.GetWarnings())
	})
}

// found is an entry that waits to be printed.
type found struct {
	stream *queryv1.LogStream
	entry  *queryv1.LogEntry
}

// stream runs a range query, page after page, and prints its answer.
func (o *queryOptions) stream(ctx context.Context, env *Env, c *client.Client, req *queryv1.QueryRangeRequest) error {
	progress := &progressLine{w: env.Stderr, on: env.StderrTerminal}
	defer progress.clear()
	var (
		kept  []found // backward: newest first
		count uint64
		cost  = &queryv1.Statistics{}
		warns []string
	)
	take := func(streams *queryv1.Streams) error {
		if o.forward {
			progress.clear()
		}
		for s, e := range client.Merged(streams.GetStreams(), req.GetDirection()) {
			if count++; !o.forward {
				kept = append(kept, found{s, e})
			} else if err := o.out.entry(s, e); err != nil {
				return err
			}
		}
		if o.forward {
			return o.out.flush()
		}
		return nil
	}
	for {
		req.Limit = o.page
		if o.limit > 0 {
			req.Limit = uint32(min(uint64(o.page), o.limit-count))
		}
		before, next := count, ""
		for piece, err := range c.QueryStream(ctx, req) {
			if err != nil {
				return err
			}
			switch event := piece.GetEvent().(type) {
			case *queryv1.QueryStreamResponse_Progress:
				progress.show(event.Progress, before)
			case *queryv1.QueryStreamResponse_Streams:
				if err := take(event.Streams); err != nil {
					return err
				}
			case *queryv1.QueryStreamResponse_Matrix:
				progress.clear()
				if err := o.out.matrix(event.Matrix); err != nil {
					return err
				}
			case *queryv1.QueryStreamResponse_Done:
				next = event.Done.GetNextCursor()
				addCost(cost, event.Done.GetStatistics())
				for _, w := range event.Done.GetWarnings() {
					if !slices.Contains(warns, w) {
						warns = append(warns, w)
					}
				}
			}
		}
		if next == "" || o.limit > 0 && count >= o.limit {
			break
		}
		if next == req.GetCursor() && count == before {
			return fmt.Errorf("the server's cursor does not move on: giving up after %d entries", count)
		}
		req.Cursor = next
	}
	progress.clear()
	for _, f := range slices.Backward(kept) {
		if err := o.out.entry(f.stream, f.entry); err != nil {
			return err
		}
	}
	return o.finish(env, cost, warns)
}

// finish ends a query's output: what was printed first, then what there is to
// say about it.
func (o *queryOptions) finish(env *Env, cost *queryv1.Statistics, warnings []string) error {
	if err := o.out.flush(); err != nil {
		return err
	}
	warn(env.Stderr, warnings)
	if o.stats {
		fmt.Fprintf(env.Stderr, "%s read in %s entries of %d streams, %s entries returned, %s (%s queued)\n",
			formatBytes(cost.GetBytesProcessed()), formatCount(cost.GetEntriesProcessed()), cost.GetStreamsMatched(),
			formatCount(cost.GetEntriesReturned()), cost.GetExecutionTime().AsDuration().Round(time.Microsecond),
			cost.GetQueueTime().AsDuration().Round(time.Microsecond))
	}
	return nil
}

// addCost adds up what the pages of a query cost.
func addCost(sum, page *queryv1.Statistics) {
	sum.ExecutionTime = durationpb.New(sum.GetExecutionTime().AsDuration() + page.GetExecutionTime().AsDuration())
	sum.QueueTime = durationpb.New(sum.GetQueueTime().AsDuration() + page.GetQueueTime().AsDuration())
	sum.BytesProcessed += page.GetBytesProcessed()
	sum.EntriesProcessed += page.GetEntriesProcessed()
	sum.EntriesReturned += page.GetEntriesReturned()
	sum.StreamsMatched = max(sum.GetStreamsMatched(), page.GetStreamsMatched())
}

// progressLine is a line on a terminal that says how far a query is.
type progressLine struct {
	w     io.Writer
	on    bool
	shown bool
}

func (p *progressLine) show(g *queryv1.Progress, before uint64) {
	if !p.on {
		return
	}
	total := ""
	if g.GetBytesTotal() > 0 {
		total = " of " + formatBytes(g.GetBytesTotal())
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s%s read, %s entries, %s found", formatBytes(g.GetBytesRead()), total,
		formatCount(g.GetEntriesRead()), formatCount(before+g.GetEntriesMatched()))
	p.shown = true
}

func (p *progressLine) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// formatBytes writes a size with three digits.
func formatBytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.5 && unit < 4 {
		f, unit = f/1000, unit+1
	}
	return fmt.Sprintf("%.3g %cB", f, "kMGTP"[unit])
}

// formatCount writes a number with separators: 1,234,567.
func formatCount(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
