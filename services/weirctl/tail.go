package weirctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

func tailCommand(env *Env) *command {
	var (
		srv     server
		out     output
		since   duration
		limit   uint32
		forTime duration
	)
	fs := pflag.NewFlagSet("tail", pflag.ContinueOnError)
	fs.Var(&since, "since", "print what came in this long ago first; 0: only what comes from now on")
	fs.Uint32Var(&limit, "limit", 100, "most entries that --since prints: the newest")
	fs.Var(&forTime, "for", "stop after this time; 0: when interrupted")
	out.register(fs, true)
	srv.register(fs, env, 0, "")
	return &command{
		name: "tail", args: "QUERY", nargs: [2]int{1, 1}, flags: fs,
		short: "follow logs as they come in",
		long: `Follow the entries that match a LogQL log query as they come in, until
interrupted. Broken connections are made again and nothing is lost or repeated
by that; where the server had to leave entries out, standard error says so.`,
		examples: []string{
			"Everything of an application\ntail '{app=\"checkout\"}'",
			"Server errors, with the last ten minutes first\ntail '{app=\"gateway\"} |~ \"HTTP/1.1.. 5[0-9]{2}\"' --since 10m",
			"Warnings and errors only, lines alone\ntail '{env=\"prod\"} | detected_level=~\"warn|error\"' -o raw",
		},
		run: func(ctx context.Context, args []string) error {
			if err := out.open(env); err != nil {
				return err
			}
			req := &tailv1.TailRequest{Query: args[0], Limit: limit}
			if since > 0 {
				req.Start = timestamppb.New(env.Now().Add(-time.Duration(since)))
			}
			tailing, cancel := ctx, context.CancelFunc(func() {})
			if forTime > 0 {
				tailing, cancel = context.WithTimeout(ctx, time.Duration(forTime))
			}
			defer cancel()
			err := srv.call(tailing, args[0], func(ctx context.Context, c *client.Client) error {
				if err := reachable(ctx, c, args[0]); err != nil {
					return err
				}
				for r, err := range c.Tail(ctx, req) {
					if err != nil {
						return err
					}
					if err := out.tailed(env, r); err != nil {
						return err
					}
				}
				return ctx.Err()
			})
			// To be stopped is how a tail ends well.
			if tailing.Err() != nil && (err == nil || errors.Is(err, tailing.Err())) {
				return nil
			}
			return err
		},
	}
}

// reachable tells a server that is not there, or a query that makes no sense,
// at once: a tail goes on trying.
func reachable(ctx context.Context, c *client.Client, query string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := c.FormatQuery(ctx, query)
	return err
}

// tailed prints the next entries of a tail.
func (o *output) tailed(env *Env, r *tailv1.TailResponse) error {
	for _, d := range r.GetDropped() {
		count := "entries"
		if d.GetEntries() > 0 {
			count = formatCount(d.GetEntries()) + " entries"
		}
		between := ""
		if d.GetFrom() != nil && d.GetThrough() != nil {
			between = fmt.Sprintf(" between %s and %s", o.time(d.GetFrom().AsTime().UnixNano()), o.time(d.GetThrough().AsTime().UnixNano()))
		}
		warn(env.Stderr, []string{fmt.Sprintf("%s left out%s: %s", count, between, d.GetReason())})
	}
	for s, e := range client.Entries(r) {
		if err := o.entry(s, e); err != nil {
			return err
		}
	}
	return o.flush()
}
