package weirctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

func labelsCommand(env *Env) *command {
	var (
		srv      server
		rng      span
		out      output
		selector string
		partial  bool
	)
	fs := pflag.NewFlagSet("labels", pflag.ContinueOnError)
	rng.register(fs, env)
	fs.StringVar(&selector, "selector", "", "only streams that this matches")
	fs.BoolVar(&partial, "partial", false, "take an answer that misses data which cannot be reached")
	out.register(fs, false)
	srv.register(fs, env, queryTimeout, "how long to wait for the answer")
	return &command{
		name: "labels", args: "[NAME]", nargs: [2]int{0, 1}, flags: fs,
		short: "list label names, or the values of one",
		long:  "List the label names of the streams with entries in a range of time, or the\nvalues of the label NAME.",
		examples: []string{
			"Label names of the last hour\nlabels",
			"Applications of the last day\nlabels app --since 24h",
			"Hosts that one application runs on\nlabels host --selector '{app=\"payments\"}'",
		},
		run: func(ctx context.Context, args []string) error {
			if err := out.open(env); err != nil {
				return err
			}
			start, end, err := rng.proto()
			if err != nil {
				return err
			}
			return srv.call(ctx, selector, func(ctx context.Context, c *client.Client) error {
				var values, warnings []string
				if len(args) == 1 {
					r, err := c.LabelValues(ctx, &queryv1.LabelValuesRequest{Name: args[0], Start: start, End: end, Selector: selector, Partial: partial})
					if err != nil {
						return err
					}
					values, warnings = r.GetValues(), r.GetWarnings()
				} else {
					r, err := c.Labels(ctx, &queryv1.LabelsRequest{Start: start, End: end, Selector: selector, Partial: partial})
					if err != nil {
						return err
					}
					values, warnings = r.GetNames(), r.GetWarnings()
				}
				for _, v := range values {
					if err := out.value(v); err != nil {
						return err
					}
				}
				warn(env.Stderr, warnings)
				return out.flush()
			})
		},
	}
}

func seriesCommand(env *Env) *command {
	var (
		srv     server
		rng     span
		out     output
		partial bool
	)
	fs := pflag.NewFlagSet("series", pflag.ContinueOnError)
	rng.register(fs, env)
	fs.BoolVar(&partial, "partial", false, "take an answer that misses data which cannot be reached")
	out.register(fs, false)
	srv.register(fs, env, queryTimeout, "how long to wait for the answer")
	return &command{
		name: "series", args: "[SELECTOR...]", nargs: [2]int{0, -1}, flags: fs,
		short: "list streams",
		long:  "List the streams with entries in a range of time: all, or those that any\nSELECTOR matches.",
		examples: []string{
			"All streams of the last hour\nseries",
			"Streams of two applications\nseries '{app=\"gateway\"}' '{app=\"checkout\"}' --since 6h",
		},
		run: func(ctx context.Context, args []string) error {
			if err := out.open(env); err != nil {
				return err
			}
			start, end, err := rng.proto()
			if err != nil {
				return err
			}
			query := ""
			if len(args) == 1 {
				query = args[0]
			}
			return srv.call(ctx, query, func(ctx context.Context, c *client.Client) error {
				r, err := c.Series(ctx, &queryv1.SeriesRequest{Selectors: args, Start: start, End: end, Partial: partial})
				if err != nil {
					return err
				}
				for _, s := range r.GetSeries() {
					if err := out.labelSet(s.GetLabels()); err != nil {
						return err
					}
				}
				warn(env.Stderr, r.GetWarnings())
				return out.flush()
			})
		},
	}
}

func statsCommand(env *Env) *command {
	var (
		srv     server
		rng     span
		out     output
		partial bool
	)
	fs := pflag.NewFlagSet("stats", pflag.ContinueOnError)
	rng.register(fs, env)
	fs.BoolVar(&partial, "partial", false, "take an answer that misses data which cannot be reached")
	out.register(fs, false)
	srv.register(fs, env, queryTimeout, "how long to wait for the answer")
	return &command{
		name: "stats", args: "SELECTOR", nargs: [2]int{1, 1}, flags: fs,
		short: "count streams, entries and bytes",
		long:  "Count the streams, entries and bytes of lines that a selector covers in a range\nof time, without reading a line. Copies on replicas count once.",
		examples: []string{
			"How much an application logged today\nstats '{app=\"gateway\"}' --since 24h",
			"The same for a program\nstats '{app=\"gateway\"}' --since 24h -o json",
		},
		run: func(ctx context.Context, args []string) error {
			if err := out.open(env); err != nil {
				return err
			}
			start, end, err := rng.proto()
			if err != nil {
				return err
			}
			return srv.call(ctx, args[0], func(ctx context.Context, c *client.Client) error {
				r, err := c.Stats(ctx, &queryv1.StatsRequest{Selector: args[0], Start: start, End: end, Partial: partial})
				if err != nil {
					return err
				}
				if err := out.stats(r); err != nil {
					return err
				}
				warn(env.Stderr, r.GetWarnings())
				return out.flush()
			})
		},
	}
}

func (o *output) stats(r *queryv1.StatsResponse) error {
	rows := []struct {
		name  string
		count uint64
	}{{"streams", r.GetStreams()}, {"runs", r.GetRuns()}, {"entries", r.GetEntries()}, {"bytes", r.GetBytes()}}
	switch o.format {
	case "json":
		counts := struct {
			Streams uint64 `json:"streams"`
			Runs    uint64 `json:"runs"`
			Entries uint64 `json:"entries"`
			Bytes   uint64 `json:"bytes"`
		}{r.GetStreams(), r.GetRuns(), r.GetEntries(), r.GetBytes()}
		if err := o.json(counts); err != nil {
			return err
		}
		return o.end()
	case "logfmt":
		for _, row := range rows {
			o.line = appendPair(o.line, row.name, fmt.Sprint(row.count))
		}
		return o.end()
	}
	for _, row := range rows {
		text := fmt.Sprint(row.count)
		if o.format == "text" {
			text = fmt.Sprintf("%-8s %s", row.name, formatCount(row.count))
			if row.name == "bytes" {
				text += " (" + formatBytes(row.count) + ")"
			}
		}
		o.line = append(o.line, text...)
		if err := o.end(); err != nil {
			return err
		}
	}
	return nil
}

func formatCommand(env *Env) *command {
	var srv server
	fs := pflag.NewFlagSet("format", pflag.ContinueOnError)
	srv.register(fs, env, queryTimeout, "how long to wait for the answer")
	return &command{
		name: "format", args: "QUERY", nargs: [2]int{1, 1}, flags: fs,
		short: "print a query in its canonical form",
		long:  "Print a LogQL query in its canonical form, over several lines if it is long, or\nshow where it is wrong.",
		examples: []string{
			"Tidy a query up\nformat 'sum(rate({app=\"gateway\"}|=\"500\"[5m]))by(host)'",
		},
		run: func(ctx context.Context, args []string) error {
			return srv.call(ctx, args[0], func(ctx context.Context, c *client.Client) error {
				text, err := c.FormatQuery(ctx, args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(env.Stdout, text)
				return err
			})
		},
	}
}

func explainCommand(env *Env) *command {
	var (
		srv server
		rng span
	)
	fs := pflag.NewFlagSet("explain", pflag.ContinueOnError)
	rng.register(fs, env)
	srv.register(fs, env, queryTimeout, "how long to wait for the answer")
	return &command{
		name: "explain", args: "QUERY", nargs: [2]int{1, 1}, flags: fs,
		short: "show how a query would be run",
		long:  "Show how a query would be run, without running it: what it would read, and what\neach operator of its plan does.",
		examples: []string{
			"What a query of a day would read\nexplain '{app=\"gateway\"} |= \" 500 \" | json' --since 24h",
		},
		run: func(ctx context.Context, args []string) error {
			start, end, err := rng.proto()
			if err != nil {
				return err
			}
			return srv.call(ctx, args[0], func(ctx context.Context, c *client.Client) error {
				r, err := c.Explain(ctx, &queryv1.QueryRangeRequest{Query: args[0], Start: start, End: end})
				if err != nil {
					return err
				}
				var b strings.Builder
				fmt.Fprintf(&b, "reads at most %s in %s entries of %d streams from %d sources\n",
					formatBytes(r.GetBytes()), formatCount(r.GetEntries()), r.GetStreams(), r.GetSources())
				fmt.Fprintf(&b, "%s blocks of the store meet its range; it is taken to cost %s\n", formatCount(uint64(r.GetBlocks())), formatBytes(r.GetCost()))
				writePlan(&b, r.GetPlan(), 0)
				for _, w := range r.GetWarnings() {
					fmt.Fprintf(&b, "warning: %s\n", w)
				}
				text := []byte(b.String())
				if env.StdoutTerminal {
					text = appendSafe(nil, text, "\n")
				}
				_, err = env.Stdout.Write(text)
				return err
			})
		},
	}
}

func writePlan(b *strings.Builder, n *queryv1.PlanNode, depth int) {
	if n == nil {
		return
	}
	indent := strings.Repeat("  ", depth)
	fmt.Fprintf(b, "%s%s", indent, n.GetOperator())
	if n.GetExpression() != "" {
		fmt.Fprintf(b, "  %s", n.GetExpression())
	}
	b.WriteByte('\n')
	for _, note := range n.GetNotes() {
		fmt.Fprintf(b, "%s  - %s\n", indent, note)
	}
	for _, in := range n.GetInputs() {
		writePlan(b, in, depth+1)
	}
}
