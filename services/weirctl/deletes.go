package weirctl

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/client"
)

// deleteLine is a delete as the commands show it; the JSON names are its contract.
type deleteLine struct {
	ID             string    `json:"id"`
	Query          string    `json:"query"`
	Start          time.Time `json:"start"`
	End            time.Time `json:"end"`
	Created        time.Time `json:"created"`
	State          string    `json:"state"`
	Cancelled      time.Time `json:"cancelled,omitzero"`
	BlocksDone     uint32    `json:"blocks_done"`
	BlocksPending  uint32    `json:"blocks_pending"`
	BytesDone      uint64    `json:"bytes_done"`
	BytesPending   uint64    `json:"bytes_pending"`
	RemovedEntries uint64    `json:"removed_entries"`
	Removals       []removal `json:"removals,omitempty"`
}

type removal struct {
	Block   string    `json:"block"`
	Sources []string  `json:"sources"`
	Entries uint64    `json:"entries"`
	Time    time.Time `json:"time"`
}

func deleteLineOf(d *storagev1.Delete) deleteLine {
	l := deleteLine{
		ID: d.GetId(), Query: d.GetQuery(), Start: d.GetStart().AsTime(), End: d.GetEnd().AsTime(), Created: d.GetCreated().AsTime(),
		State:      strings.ToLower(strings.TrimPrefix(d.GetState().String(), "DELETE_STATE_")),
		BlocksDone: d.GetBlocksDone(), BlocksPending: d.GetBlocksPending(), BytesDone: d.GetBytesDone(), BytesPending: d.GetBytesPending(),
		RemovedEntries: d.GetRemovedEntries(),
	}
	if t := d.GetCancelled(); t != nil {
		l.Cancelled = t.AsTime()
	}
	for _, r := range d.GetRemovals() {
		l.Removals = append(l.Removals, removal{r.GetBlock(), r.GetSources(), r.GetEntries(), r.GetTime().AsTime()})
	}
	return l
}

type deletesOptions struct {
	env      *Env
	server   server
	out      output
	from, to string
}

func deletesCommand(env *Env) *command {
	o := &deletesOptions{env: env}
	fs := pflag.NewFlagSet("deletes", pflag.ContinueOnError)
	fs.StringVar(&o.from, "from", "", "create: start of the range: RFC 3339, a date, Unix seconds, or now-DURATION (default: the beginning of time)")
	fs.StringVar(&o.to, "to", "", "create: end of the range, written like --from (default: now)")
	o.out.register(fs, false)
	o.server.register(fs, env, time.Minute, "how long to wait for the answer")
	return &command{
		name: "deletes", args: "create QUERY|list|cancel ID", nargs: [2]int{1, 2}, flags: fs,
		short: "delete entries, see how far that is, take it back",
		long: `Delete entries. What QUERY keeps, a selector with line filters and label
filters, is gone from every answer at once and from the disk when rewriting is
through. Until rewriting starts, a day later unless the server is configured
otherwise, the delete can be cancelled and the entries are there again. Those that
were cancelled in the last day are in the list, too.`,
		examples: []string{
			"All of an application\ndeletes create '{app=\"demo\"}'",
			"Lines of a day that should not be there\ndeletes create '{app=\"payments\"} |= \"card number\"' --from 2026-03-01 --to 2026-03-02",
			"How far they are, and what was removed from which block\ndeletes list -o json",
			"Take one back\ndeletes cancel 06h19e5a5mqna1juitc38knn54",
		},
		run: o.run,
	}
}

func (o *deletesOptions) run(ctx context.Context, args []string) error {
	if err := o.out.open(o.env); err != nil {
		return err
	}
	need := func(n int, what string) error {
		if len(args) != n {
			return usagef("deletes %s needs %s", args[0], what)
		}
		return nil
	}
	switch args[0] {
	case "create":
		if err := need(2, "one query; is a quote missing around it?"); err != nil {
			return err
		}
		return o.create(ctx, args[1])
	case "list":
		if err := need(1, "nothing more"); err != nil {
			return err
		}
		return o.list(ctx)
	case "cancel":
		if err := need(2, "the id of a delete"); err != nil {
			return err
		}
		return o.server.call(ctx, "", func(ctx context.Context, c *client.Client) error {
			_, err := c.Storage().CancelDelete(ctx, &storagev1.CancelDeleteRequest{Id: args[1]})
			return err
		})
	}
	return usagef("deletes: unknown action %q%s", args[0], suggest(args[0], []string{"create", "list", "cancel"}))
}

func (o *deletesOptions) create(ctx context.Context, query string) error {
	req := &storagev1.CreateDeleteRequest{Query: query}
	for _, bound := range []struct {
		flag, text string
		to         **timestamppb.Timestamp
	}{{"--from", o.from, &req.Start}, {"--to", o.to, &req.End}} {
		if bound.text == "" {
			continue
		}
		t, err := parseTime(bound.text, o.env.Now())
		if err != nil {
			return usagef("%s: %v", bound.flag, err)
		}
		*bound.to = timestamppb.New(t)
	}
	return o.server.call(ctx, query, func(ctx context.Context, c *client.Client) error {
		r, err := c.Storage().CreateDelete(ctx, req)
		if err != nil {
			return err
		}
		if o.out.format == "json" {
			return o.json(deleteLineOf(r.GetDelete()))
		}
		fmt.Fprintln(o.out.w, r.GetDelete().GetId())
		return o.out.flush()
	})
}

func (o *deletesOptions) json(v any) error {
	if err := o.out.json(v); err != nil {
		return err
	}
	if err := o.out.end(); err != nil {
		return err
	}
	return o.out.flush()
}

func (o *deletesOptions) list(ctx context.Context) error {
	return o.server.call(ctx, "", func(ctx context.Context, c *client.Client) error {
		r, err := c.Storage().ListDeletes(ctx, &storagev1.ListDeletesRequest{})
		if err != nil {
			return err
		}
		if o.out.format == "json" {
			for _, d := range r.GetDeletes() {
				if err := o.json(deleteLineOf(d)); err != nil {
					return err
				}
			}
			return nil
		}
		w := tabwriter.NewWriter(o.out.w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DELETE\tSTATE\tCREATED\tBLOCKS\tREMOVED\tQUERY")
		for _, d := range r.GetDeletes() {
			l := deleteLineOf(d)
			blocks, removed := fmt.Sprintf("%d of %d", l.BlocksDone, l.BlocksDone+l.BlocksPending), formatCount(l.RemovedEntries)
			if d.GetState() == storagev1.DeleteState_DELETE_STATE_CANCELLED {
				blocks, removed = "-", "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.State, l.Created.Format(time.RFC3339), blocks, removed,
				appendSafe(nil, []byte(l.Query), `\n`))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		return o.out.flush()
	})
}

type retentionOptions struct {
	env    *Env
	server server
	out    output
	at     string
	exact  bool
}

func retentionCommand(env *Env) *command {
	o := &retentionOptions{env: env}
	fs := pflag.NewFlagSet("retention", pflag.ContinueOnError)
	fs.StringVar(&o.at, "at", "", "judge ages as of then: RFC 3339, a date or Unix seconds (default: now)")
	fs.BoolVar(&o.exact, "exact", false, "read blocks of which a part would go, and count its entries")
	o.out.register(fs, false)
	o.server.register(fs, env, 5*time.Minute, "how long to wait for the answer")
	return &command{
		name: "retention", args: "dry-run", nargs: [2]int{1, 1}, flags: fs,
		short: "show what retention would remove",
		long: `Show what retention, as the server is configured, would remove of a tenant.
Nothing is removed. Blocks go as a whole when all of their entries have expired;
those of which a part has are rewritten, and how many of their entries that would
be is an estimate without --exact. Blocks that cannot be read are told, the others
answered, and the exit code is 1: more may have to go.`,
		examples: []string{
			"What would go now\nretention dry-run --tenant team-a",
			"How many entries of each block exactly\nretention dry-run --tenant team-a --exact",
			"What would go by the end of the year, for a program\nretention dry-run --at 2026-12-31 -o json",
		},
		run: o.run,
	}
}

// retentionReport is what the dry run shows; the JSON names are its contract.
type retentionReport struct {
	Time          time.Time       `json:"time"`
	Bytes         uint64          `json:"bytes"`
	BytesExpired  uint64          `json:"bytes_expired"`
	BytesPerCycle uint64          `json:"bytes_per_cycle"`
	Steps         []retentionStep `json:"steps"`
	Incomplete    bool            `json:"incomplete"`
	Unread        []unreadBlock   `json:"unread,omitempty"`
}

// unreadBlock is a block that the server could not read.
type unreadBlock struct {
	Block string `json:"block"`
	Error string `json:"error"`
}

type retentionStep struct {
	Block     string    `json:"block"`
	Last      time.Time `json:"last"`
	Bytes     uint64    `json:"bytes"`
	Rewrite   bool      `json:"rewrite"`
	Entries   uint64    `json:"entries"`
	Estimated bool      `json:"estimated"`
	Reason    string    `json:"reason"`
}

func (o *retentionOptions) run(ctx context.Context, args []string) error {
	if args[0] != "dry-run" {
		return usagef("retention: unknown action %q%s", args[0], suggest(args[0], []string{"dry-run"}))
	}
	if err := o.out.open(o.env); err != nil {
		return err
	}
	req := &storagev1.RetentionDryRunRequest{Exact: o.exact}
	if o.at != "" {
		t, err := parseTime(o.at, o.env.Now())
		if err != nil {
			return usagef("--at: %v", err)
		}
		req.Time = timestamppb.New(t)
	}
	return o.server.call(ctx, "", func(ctx context.Context, c *client.Client) error {
		r, err := c.Storage().RetentionDryRun(ctx, req)
		if err != nil {
			return err
		}
		rep := retentionReport{Time: r.GetTime().AsTime(), Bytes: r.GetBytes(), BytesExpired: r.GetBytesExpired(), BytesPerCycle: r.GetBytesPerCycle(), Steps: []retentionStep{}}
		for _, s := range r.GetSteps() {
			rep.Steps = append(rep.Steps, retentionStep{s.GetBlock().GetId(), s.GetBlock().GetMaxTime().AsTime(), s.GetBlock().GetBytes(), s.GetRewrite(), s.GetEntries(), s.GetEstimated(), s.GetReason()})
		}
		for _, u := range r.GetUnread() {
			rep.Unread = append(rep.Unread, unreadBlock{u.GetBlock().GetId(), u.GetError()})
		}
		rep.Incomplete = r.GetIncomplete()
		if err := o.print(rep); err != nil || !rep.Incomplete {
			return err
		}
		for _, u := range rep.Unread {
			fmt.Fprintf(o.env.Stderr, "weirctl: block %s is not counted: %s\n", u.Block, appendSafe(nil, []byte(u.Error), `\n`))
		}
		return fmt.Errorf("the answer is incomplete: %d of the tenant's blocks could not be read", len(rep.Unread))
	})
}

func (o *retentionOptions) print(rep retentionReport) error {
	if o.out.format == "json" {
		if err := o.out.json(rep); err != nil {
			return err
		}
		if err := o.out.end(); err != nil {
			return err
		}
		return o.out.flush()
	}
	w := tabwriter.NewWriter(o.out.w, 0, 0, 2, ' ', 0)
	if len(rep.Steps) > 0 {
		fmt.Fprintln(w, "BLOCK\tLAST ENTRY\tSIZE\tWHAT\tENTRIES\tWHY")
	}
	for _, s := range rep.Steps {
		what, entries := "goes", formatCount(s.Entries)
		if s.Rewrite {
			what = "is rewritten"
		}
		if s.Estimated {
			entries = "about " + entries
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Block, s.Last.Format(time.RFC3339), formatBytes(s.Bytes), what, entries, appendSafe(nil, []byte(s.Reason), `\n`))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(o.out.w, "as of %s %s of %s would go as a whole; at most %s go in one cycle\n", rep.Time.Format(time.RFC3339), formatBytes(rep.BytesExpired), formatBytes(rep.Bytes), formatBytes(rep.BytesPerCycle))
	return o.out.flush()
}
