package engine_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/logql/syntax/syntaxtest"
	"github.com/weir-logs/weir/libs/model"
)

// extendedWords talk about what Loki does not have, and about lists in lines.
var extendedWords = func() syntaxtest.Words {
	w := words
	// A label that a parser calls so is told apart from an error within one pipeline only.
	w.Labels = slices.DeleteFunc(append(slices.Clone(words.Labels), "list", "top_count"), func(n string) bool { return n == "__error__" })
	w.Extended = true
	return w
}()

// listed gives some entries a list.
func listed(t *rapid.T, all []enginetest.Entry) []enginetest.Entry {
	lists := map[string]string{} // an entry that is there again has the same
	for i := range all {
		id := fmt.Sprint(all[i])
		list, ok := lists[id]
		if !ok {
			list = pick(t, "list", "", "", `["a","b","a"]`, `[1,2]`, `[]`, `["x"`, "text", `[null,{"n":1}]`)
			lists[id] = list
		}
		if list != "" {
			all[i].Metadata = model.NewLabels(append(slices.Clone(all[i].Metadata), model.Label{Name: "list", Value: list}))
		}
	}
	return all
}

// twinRow is an entry on its way through stages.
type twinRow struct {
	hash                   uint64
	time                   int64
	line                   string
	stream, metadata, more model.Labels
}

func (r *twinRow) get(name string) string {
	for _, set := range []model.Labels{r.more, r.metadata, r.stream} {
		if v, ok := set.Lookup(name); ok {
			return v
		}
	}
	return ""
}

func (r *twinRow) values(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, r.get(n))
	}
	return fmt.Sprintf("%q", out)
}

func (r twinRow) with(name, value string) twinRow {
	drop := func(ls model.Labels) model.Labels {
		return slices.DeleteFunc(slices.Clone(ls), func(l model.Label) bool { return l.Name == name })
	}
	r.stream, r.metadata, r.more = drop(r.stream), drop(r.metadata), append(drop(r.more), model.Label{Name: name, Value: value})
	sort.Slice(r.more, func(i, j int) bool { return r.more[i].Name < r.more[j].Name })
	return r
}

// rows runs stages over all entries at once, stage by stage.
func (t *twin) rows(sel *syntax.LogSelector, start, end int64, backward bool) ([]twinRow, error) {
	es := t.selected(sel.Matchers, start, end)
	if backward {
		slices.Reverse(es)
	}
	var rows []twinRow
	for _, e := range es {
		rows = append(rows, twinRow{hash: enginetest.Hash(e), time: e.Time, line: e.Line, stream: e.Labels, metadata: metaOf(e)})
	}
	return t.through(rows, sel.Stages, start, end)
}

func (t *twin) resolved(e syntax.Expr, start, end int64) (syntax.Expr, error) {
	return syntax.Resolve(e, func(c *syntax.InCond) ([]string, error) {
		rows, err := t.rows(c.Query, start, end, false)
		set := map[string]bool{}
		for i := range rows {
			if v := rows[i].get(c.Name); v != "" {
				set[v] = true
			}
		}
		return slices.Sorted(maps.Keys(set)), err
	})
}

func (t *twin) through(rows []twinRow, stages []syntax.Stage, start, end int64) ([]twinRow, error) {
	resolved, err := t.resolved(&syntax.LogSelector{Stages: stages}, start, end)
	if err != nil {
		return nil, err
	}
	stages = resolved.(*syntax.LogSelector).Stages
	// What sources run, even if that is nothing, and what is left.
	for first := true; first || len(stages) > 0; first = false {
		n := 0
		for n < len(stages) && !syntax.Extended(stages[n]) {
			n++
		}
		if n == 0 && !first {
			rows = extendedStage(rows, stages[0])
			stages = stages[1:]
			continue
		}
		p, err := pipeline.Compile(stages[:n], pipeline.Hints{})
		if err != nil {
			return nil, err
		}
		var out []twinRow
		for _, r := range rows {
			st := p.ForStream(r.stream)
			st.SetParsed(r.more)
			line, ls, ok := st.Process(r.time, []byte(r.line), r.metadata)
			if ok {
				r.line, r.stream, r.metadata, r.more = string(line), pipeline.Clone(ls.AppendStream(nil)), pipeline.Clone(ls.AppendMetadata(nil)), pipeline.Clone(ls.AppendParsed(nil))
				out = append(out, r)
			}
		}
		rows, stages = out, stages[n:]
	}
	return rows, nil
}

func extendedStage(rows []twinRow, s syntax.Stage) []twinRow {
	var out []twinRow
	switch s := s.(type) {
	case *syntax.Distinct:
		seen := map[string]bool{}
		for _, r := range rows {
			if v := r.values(s.Labels); !seen[v] {
				seen[v] = true
				out = append(out, r)
			}
		}
	case *syntax.Dedup:
		for i, r := range rows {
			if i == 0 || r.values(s.Labels) != rows[i-1].values(s.Labels) {
				out = append(out, r)
			}
		}
	case *syntax.Limit:
		return rows[:min(len(rows), s.N)]
	case *syntax.Sample:
		for _, r := range rows {
			if engine.Sampled(r.hash, s.Share) {
				out = append(out, r)
			}
		}
	case *syntax.Sort:
		out = slices.Clone(rows)
		// The three kinds of values one by one.
		number := func(v string) (float64, bool) {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				var d time.Duration
				if d, err = time.ParseDuration(v); err == nil {
					f = d.Seconds()
				} else if n, e := pipeline.ParseBytes(v); e == nil && v[0] != 'x' {
					f, err = float64(n), nil
				}
			}
			return f, err == nil && !math.IsNaN(f)
		}
		sort.SliceStable(out, func(i, j int) bool {
			a, b := out[i].get(s.Label), out[j].get(s.Label)
			if a == "" || b == "" {
				return a != "" && b == ""
			}
			if s.Desc {
				a, b = b, a
			}
			x, xok := number(a)
			y, yok := number(b)
			switch {
			case xok != yok:
				return xok
			case xok:
				return x < y
			}
			return a < b
		})
	case *syntax.Top:
		counts := map[string]int{}
		firsts := map[string]twinRow{}
		for _, r := range rows {
			v := r.get(s.Label)
			if counts[v]++; counts[v] == 1 {
				firsts[v] = r
			}
		}
		delete(counts, "")
		values := slices.Sorted(maps.Keys(counts))
		sort.SliceStable(values, func(i, j int) bool { return counts[values[i]] > counts[values[j]] })
		for _, v := range values[:min(len(values), s.N)] {
			out = append(out, firsts[v].with("top_count", strconv.Itoa(counts[v])))
		}
	case *syntax.Unroll:
		for _, r := range rows {
			var list []json.RawMessage
			if text := r.get(s.Label); text == "" || text[0] != '[' || json.Unmarshal([]byte(text), &list) != nil {
				out = append(out, r)
				continue
			}
			for _, x := range list {
				text := string(x)
				var str string
				if json.Unmarshal(x, &str) == nil {
					text = str // null too
				}
				out = append(out, r.with(s.Label, text))
			}
		}
	}
	return out
}

// given returns the entries in the order in which a result has them, as texts: within
// streams for an answer as a whole.
func given(res *engine.Result) map[string][]string {
	out := map[string][]string{}
	for _, s := range res.Streams {
		for _, e := range s.Entries {
			k := s.Labels.String()
			out[k] = append(out[k], entryText(e.Time, string(e.Line), s.Labels, e.Metadata, e.Parsed))
		}
	}
	return out
}

func rowsByStream(rows []twinRow) map[string][]string {
	out := map[string][]string{}
	for _, r := range rows {
		k := r.stream.String()
		out[k] = append(out[k], entryText(r.time, r.line, r.stream, r.metadata, r.more))
	}
	return out
}

// Log queries with stages that Loki does not have answer as the plain twin, page by page.
func TestExtendedLogsEqualTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := listed(t, entries(t))
		digests := rapid.Bool().Draw(t, "digests")
		stores := spread(t, all, false)
		sel := extendedWords.LogQueries().Draw(t, "query")
		start := int64(rapid.IntRange(0, 100).Draw(t, "start")) * 3 * sec
		q := engine.RangeQuery{
			Query: engine.Query{Expr: sel, Sources: arrange(t, sources(stores, digests))},
			Start: start, End: start + 3*sec*int64(rapid.IntRange(1, 100).Draw(t, "length")),
			Limit: pick(t, "limit", 0, 1, 2, 5), Backward: rapid.Bool().Draw(t, "backward"),
		}
		want, err := newTwin(all).rows(sel, q.Start, q.End, q.Backward)
		emit := rapid.Bool().Draw(t, "emit")
		for page := 0; ; page++ {
			emitted := map[string][]string{}
			if emit {
				q.Emit = func(ls []engine.LogStream) error {
					for k, texts := range given(&engine.Result{Streams: ls}) {
						emitted[k] = append(emitted[k], texts...)
					}
					return nil
				}
			}
			res, gotErr := run(q)
			closed(t, stores)
			if (err != nil) != (gotErr != nil) {
				t.Fatalf("%s: got error %v, want %v", sel, gotErr, err)
			}
			if err != nil {
				return
			}
			now := want
			if q.Limit > 0 && len(want) > q.Limit {
				now = want[:q.Limit]
			}
			got := given(res)
			for k, texts := range emitted {
				got[k] = append(texts, got[k]...)
			}
			if w := rowsByStream(now); !maps.EqualFunc(got, w, slices.Equal) {
				t.Fatalf("%s, page %d, backward %v, limit %d:\n got %q\nwant %q", sel, page, q.Backward, q.Limit, got, w)
			}
			want = want[len(now):]
			if (res.NextCursor != "") != (len(want) > 0) {
				t.Fatalf("%s: cursor %q with %d entries left", sel, res.NextCursor, len(want))
			}
			if len(want) == 0 {
				return
			}
			q.Cursor = res.NextCursor
		}
	})
}
