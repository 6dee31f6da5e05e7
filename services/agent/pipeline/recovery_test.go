package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/services/agent/entry"
)

// What comes out does not depend on how the lines come in batches; and when what
// is held is read again by a new Runner, as after a crash, nothing is lost,
// doubled or in another order within its stream.
func TestBatchesAndRecovery(t *testing.T) {
	p := compile(t, `[{cri: {}}, {multiline: {firstline: '^N', max_lines: 0}}, {match: {selector: '{stream="stderr"}', stages: [{multiline: '^(N|-)'}]}}]`, Deps{})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 30).Draw(t, "n")
		var in []entry.Entry
		set := entry.SetOf(map[string]string{"app": "a"})
		for i := range n {
			line := fmt.Sprintf("2026-01-02T03:04:05.%09dZ %s %s %s%d", i,
				rapid.SampledFrom([]string{"stdout", "stderr"}).Draw(t, "stream"),
				rapid.SampledFrom([]string{"F", "F", "P"}).Draw(t, "flag"),
				rapid.SampledFrom([]string{"N", " ", "-", ""}).Draw(t, "text"), i)
			in = append(in, entry.Entry{Labels: set, Time: t0.UnixNano(), Line: []byte(line), Span: entry.Span{Start: int64(10 * i), End: int64(10*i + 10)}})
		}
		feed := func(r *Runner, in []entry.Entry, out map[string][]string) {
			got, err := r.Run(context.Background(), slices.Clone(in), t0)
			if err != nil {
				t.Fatal(err)
			}
			collect(out, got)
		}
		whole := map[string][]string{}
		r := p.NewRunner()
		feed(r, in, whole)
		collect(whole, r.Flush(t0, true))

		// In pieces, and with Runners that are given up and begun anew.
		pieces := map[string][]string{}
		r = p.NewRunner()
		for rest := in; len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			feed(r, rest[:k], pieces)
			if rapid.Bool().Draw(t, "release") {
				r.Release()
			}
			rest = rest[k:]
			if rapid.Bool().Draw(t, "crash") {
				held := r.Held(nil)
				r = p.NewRunner()
				for _, e := range in[:len(in)-len(rest)] {
					if slices.ContainsFunc(held, func(s entry.Span) bool { return s.Start <= e.Span.Start && e.Span.End <= s.End }) {
						feed(r, []entry.Entry{e}, pieces)
					}
				}
			}
		}
		collect(pieces, r.Flush(t0, true))
		if fmt.Sprint(whole) != fmt.Sprint(pieces) {
			t.Fatalf("at once\n%v\nin pieces\n%v", whole, pieces)
		}
	})
}

// collect appends entries by stream.
func collect(out map[string][]string, got []entry.Entry) {
	for _, e := range got {
		out[e.Labels.Key()] = append(out[e.Labels.Key()], fmt.Sprint(e.Time, e.Span, string(e.Line)))
	}
}
