package weirctl

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// queryLine is a running query as the command shows it; the JSON names are its contract.
type queryLine struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"`
	Query       string     `json:"query"`
	State       string     `json:"state"`
	Querier     string     `json:"querier,omitempty"`
	Start       *time.Time `json:"start,omitempty"`
	End         *time.Time `json:"end,omitempty"`
	Received    time.Time  `json:"received"`
	AgeSeconds  float64    `json:"age_seconds"`
	WaitSeconds float64    `json:"wait_seconds"`
	Cost        uint64     `json:"cost"`
	BytesRead   uint64     `json:"bytes_read"`
	BytesTotal  uint64     `json:"bytes_total"`
	EntriesRead uint64     `json:"entries_read"`
}

func queryLineOf(q *queryv1.RunningQuery) queryLine {
	l := queryLine{
		ID: q.GetId(), Kind: q.GetKind(), Query: q.GetQuery(), Querier: q.GetQuerier(),
		State:    strings.ToLower(strings.TrimPrefix(q.GetState().String(), "QUERY_STATE_")),
		Received: q.GetReceived().AsTime(), AgeSeconds: q.GetAge().AsDuration().Seconds(), WaitSeconds: q.GetQueueTime().AsDuration().Seconds(),
		Cost: q.GetCost(), BytesRead: q.GetBytesRead(), BytesTotal: q.GetBytesTotal(), EntriesRead: q.GetEntriesRead(),
	}
	if q.GetEnd() != nil {
		start, end := q.GetStart().AsTime(), q.GetEnd().AsTime()
		l.Start, l.End = &start, &end
	}
	return l
}

type queriesOptions struct {
	env    *Env
	server server
	out    output
}

func queriesCommand(env *Env) *command {
	o := &queriesOptions{env: env}
	fs := pflag.NewFlagSet("queries", pflag.ContinueOnError)
	o.out.register(fs, false)
	o.server.register(fs, env, 30*time.Second, "how long to wait for the answer")
	return &command{
		name: "queries", args: "list|cancel ID", nargs: [2]int{1, 2}, flags: fs,
		short: "list the queries that run or wait, and end one",
		long: `List the tenant's queries that run or wait for their turn, on all queriers, and
end one. Whoever asked it is told that it was cancelled.`,
		examples: []string{
			"What runs and what waits\nqueries list",
			"The same for a program, with how far each is\nqueries list -o json",
			"End one\nqueries cancel XK5DP3AWWKM3LPPBJVPGC7V5PL",
		},
		run: o.run,
	}
}

func (o *queriesOptions) run(ctx context.Context, args []string) error {
	if err := o.out.open(o.env); err != nil {
		return err
	}
	switch {
	case args[0] == "list" && len(args) == 1:
		return o.server.call(ctx, "", o.list)
	case args[0] == "list":
		return usagef("queries list needs nothing more")
	case args[0] == "cancel" && len(args) == 2:
		return o.server.call(ctx, "", func(ctx context.Context, c *client.Client) error {
			q, err := c.CancelQuery(ctx, args[1])
			if err != nil || o.out.format != "json" {
				return err
			}
			return o.json(queryLineOf(q))
		})
	case args[0] == "cancel":
		return usagef("queries cancel needs the id of a query")
	}
	return usagef("queries: unknown action %q%s", args[0], suggest(args[0], []string{"list", "cancel"}))
}

func (o *queriesOptions) json(v any) error {
	if err := o.out.json(v); err != nil {
		return err
	}
	if err := o.out.end(); err != nil {
		return err
	}
	return o.out.flush()
}

func (o *queriesOptions) list(ctx context.Context, c *client.Client) error {
	r, err := c.ListQueries(ctx, &queryv1.ListQueriesRequest{})
	if err != nil {
		return err
	}
	for _, w := range r.GetWarnings() {
		fmt.Fprintf(o.env.Stderr, "weirctl: the list is not complete: %s\n", appendSafe(nil, []byte(w), `\n`))
	}
	if o.out.format == "json" {
		for _, q := range r.GetQueries() {
			if err := o.json(queryLineOf(q)); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(o.out.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tAGE\tREAD\tENTRIES\tKIND\tQUERY")
	for _, q := range r.GetQueries() {
		l := queryLineOf(q)
		read := formatBytes(l.BytesRead)
		if l.BytesTotal > 0 {
			read += " of " + formatBytes(l.BytesTotal)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.State, q.GetAge().AsDuration().Round(100*time.Millisecond), read,
			formatCount(l.EntriesRead), l.Kind, appendSafe(nil, []byte(l.Query), `\n`))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return o.out.flush()
}
