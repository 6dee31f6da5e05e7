package engine_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Parts of a range are the range, in the asked direction, and few.
func TestLogParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(-1e6, 1e6).Draw(t, "start")
		end := start + rapid.Int64Range(0, 1e6).Draw(t, "length")
		split := rapid.Int64Range(0, 2e5).Draw(t, "split")
		backward := rapid.Bool().Draw(t, "backward")
		parts := engine.LogParts(start, end, split, backward)
		if backward {
			slices.Reverse(parts)
		}
		at := start
		for i, p := range parts {
			if p.Start != at || p.End < p.Start || (p.End == p.Start && start < end) {
				t.Fatalf("%v of [%d, %d)", parts, start, end)
			}
			if inner := i < len(parts)-1; inner && p.End%split != 0 {
				t.Fatalf("%v do not end at multiples of %d", parts, split)
			}
			at = p.End
		}
		if at != end || len(parts) > 24 {
			t.Fatalf("%v of [%d, %d)", parts, start, end)
		}
	})
}

// Times at the ends of what there is are split like others.
func TestLogPartsFarOff(t *testing.T) {
	const hour = 3600 * sec
	for _, r := range []engine.TimeRange{{Start: math.MaxInt64 - 721*hour, End: math.MaxInt64}, {Start: math.MinInt64, End: math.MinInt64 + 721*hour}, {Start: 0, End: math.MaxInt64}} {
		for _, backward := range []bool{false, true} {
			parts := engine.LogParts(r.Start, r.End, 24*hour, backward)
			if backward {
				slices.Reverse(parts)
			}
			at := r.Start
			for _, p := range parts {
				if p.Start != at || p.End <= at {
					t.Fatalf("%v of %v", parts, r)
				}
				at = p.End
			}
			if at != r.End || len(parts) > 24 {
				t.Fatalf("%v of %v", parts, r)
			}
		}
	}
}

// Parts of a grid are all its steps, begin at multiples of one length, and are bounded in
// number, however short a part is asked for.
func TestGridParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		step := rapid.Int64Range(1, 1e6).Draw(t, "step") * 1e6
		start := rapid.Int64Range(-1e6, 1e6).Draw(t, "start") * step
		steps := rapid.SampledFrom([]int64{1, 31, 500, 512, 11_000, 16_352, 16_353, 1_000_000}).Draw(t, "steps") + rapid.Int64Range(0, 40).Draw(t, "more")
		interval := rapid.Int64Range(1, 1e12).Draw(t, "interval")
		split := rapid.SampledFrom([]int64{0, 1, 60 * sec, 24 * 3600 * sec}).Draw(t, "split")
		parts := engine.GridParts(start, start+(steps-1)*step, step, interval, split)
		if len(parts) > 512 || split == 0 && len(parts) > 1 {
			t.Fatalf("%d parts", len(parts))
		}
		total := 0
		for i, n := range parts {
			if total += n; n < 1 {
				t.Fatalf("part %d has %d steps", i, n)
			}
			if i < len(parts)-1 && len(parts) > 2 && (start/step+int64(total))%int64(parts[1]) != 0 {
				t.Fatalf("%v do not end at multiples of one length", parts)
			}
		}
		if int64(total) != steps {
			t.Fatalf("%v are %d steps of %d", parts, total, steps)
		}
	})
}

// ranged is a source that notes which ranges it was opened for.
type ranged struct {
	engine.Source
	opened *[]engine.TimeRange
}

func (r ranged) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	*r.opened = append(*r.opened, engine.TimeRange{Start: start, End: end})
	return r.Source.Open(ctx, m, start, end)
}

// A log query opens no more of a long range than its limit takes, in either direction.
func TestSplitStopsEarly(t *testing.T) {
	const hour = 3600 * sec
	var all []enginetest.Entry
	for h := range 40 {
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(h) * hour, Line: fmt.Sprint("hour ", h), BatchTime: 1})
	}
	for _, tc := range []struct {
		limit    int
		backward bool
		query    string
		opened   string
		warns    bool
	}{
		{3, true, `{app="a"}`, "[36,40)", false},
		{4, true, `{app="a"}`, "[36,40) [32,36)", false},
		{3, false, `{app="a"}`, "[0,4)", false},
		{9, false, `{app="a"}`, "[0,4) [4,8) [8,16)", false},
		{9, false, `{app="a"} |= "hour 1"`, "[0,4) [4,8) [8,16) [16,32)", false},
		{50, true, `{app="a"} |= "hour 7"`, "[36,40) [32,36) [24,32) [8,24) [0,8)", false},
		{3, true, `|= "hour"`, "[0,40)", false}, // its budget is about all
	} {
		var opened []engine.TimeRange
		store := enginetest.NewStore(all...)
		res, err := run(engine.RangeQuery{
			Query: engine.Query{Expr: parse(t, tc.query), Sources: []engine.Source{ranged{engine.Local(store, "s"), &opened}}, Split: 4 * time.Hour},
			Start: 0, End: 40 * hour, Limit: tc.limit, Backward: tc.backward,
		})
		if err != nil {
			t.Fatal(err)
		}
		closed(t, []*enginetest.Store{store})
		var got []string
		for _, r := range opened {
			got = append(got, fmt.Sprintf("[%d,%d)", r.Start/hour, r.End/hour))
		}
		if s := strings.Join(got, " "); s != tc.opened {
			t.Errorf("%s, limit %d: opened %s, want %s", tc.query, tc.limit, s, tc.opened)
		}
		if n := len(texts(res)); n > tc.limit || res.Statistics.StreamsMatched != 1 {
			t.Errorf("%s: %d entries, %d streams", tc.query, n, res.Statistics.StreamsMatched)
		}
	}
}

// A metric query has few parts open at a time, and a part that fails ends it.
func TestSplitIsBounded(t *testing.T) {
	const hour = 3600 * sec
	var all []enginetest.Entry
	for h := range 200 {
		all = append(all, enginetest.Entry{Labels: labels("app", "a"), Time: int64(h) * hour, Line: "n=1", BatchTime: 1})
	}
	store := enginetest.NewStore(all...)
	var now, most, opens atomic.Int64
	count := tallied{engine.Local(store, "s"), &now, &most, &opens, 1 << 30}
	q := engine.RangeQuery{
		Query: engine.Query{Expr: parse(t, `sum(count_over_time({app="a"}[1h]))`), Sources: []engine.Source{count}, Split: 10 * time.Hour},
		Start: 0, End: 200 * hour, Step: 10 * time.Minute,
	}
	res, err := run(q)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.Matrix[0].Points); n != 1200-5 && n != 1200 || res.Statistics.StreamsMatched != 1 {
		t.Errorf("%d points, %d streams", n, res.Statistics.StreamsMatched)
	}
	if opens.Load() < 10 || most.Load() > 2 {
		t.Errorf("opened %d times, %d at once", opens.Load(), most.Load())
	}
	count.fails = 3
	opens.Store(0)
	q.Sources = []engine.Source{count}
	if _, err := run(q); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("got %v", err)
	}
	if n := opens.Load(); n > 6 {
		t.Errorf("opened %d times though a part had failed", n)
	}
	closed(t, []*enginetest.Store{store})
}

// tallied counts the sessions that are open, and fails from the one of a number on.
type tallied struct {
	engine.Source
	now, most, opens *atomic.Int64
	fails            int64
}

func (c tallied) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	if c.opens.Add(1) > c.fails {
		return nil, engine.Errorf(engine.ErrLimit, "too much")
	}
	n := c.now.Add(1)
	for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
	}
	s, err := c.Source.Open(ctx, m, start, end)
	return &countedSession{s, c.now}, err
}

type countedSession struct {
	engine.Session
	now *atomic.Int64
}

func (s *countedSession) Close() error { s.now.Add(-1); return s.Session.Close() }

// A result of too many series is an error, or is cut to those of the greatest values,
// and says so. Operands are not cut: what is there is right.
func TestCutSeries(t *testing.T) {
	var all []enginetest.Entry
	for i := range 9 {
		for k := range i + 1 {
			all = append(all, enginetest.Entry{Labels: labels("app", fmt.Sprint("a", i)), Time: int64(k+1) * sec, Line: "x", BatchTime: 1})
		}
	}
	for _, tc := range []struct{ query, kept, warning string }{
		{`count_over_time({app=~".+"}[1m])`, `{app="a6"} 7, {app="a7"} 8, {app="a8"} 9`, "9 series, more than the limit of 3: the 3 of the greatest values (summed up over time) are here, 6 are left out"},
		{`sort_desc(count_over_time({app=~".+"}[1m]))`, `{app="a8"} 9, {app="a7"} 8, {app="a6"} 7`, "6 are left out"},
		{`0 - count_over_time({app=~".+"}[1m])`, `{app="a0"} -1, {app="a1"} -2, {app="a2"} -3`, "6 are left out"},
		{`count_over_time({app=~".+"}[1m]) * 0`, `{app="a0"} 0, {app="a1"} 0, {app="a2"} 0`, "6 are left out"},
		{`sum by (app) (count_over_time({app=~".+"}[1m])) / on () group_left sum(count_over_time({app=~".+"}[1m]))`, `{app="a6"} 0.15555555555555556, {app="a7"} 0.17777777777777778, {app="a8"} 0.2`, "6 are left out"},
		{`count(count_over_time({app=~".+"}[1m]))`, `{} 9`, ""},
		{`topk(2, count_over_time({app=~".+"}[1m]))`, `{app="a7"} 8, {app="a8"} 9`, ""},
	} {
		q := engine.Query{Expr: parse(t, tc.query), Sources: []engine.Source{engine.Local(enginetest.NewStore(all...), "s")}}
		q.Limits.MaxSeries, q.Limits.CutSeries = 3, true
		res, err := engine.New(engine.Options{}).Instant(context.Background(), q, 60*sec)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range res.Vector {
			got = append(got, fmt.Sprint(s.Labels, " ", s.Value))
		}
		if strings.Join(got, ", ") != tc.kept || !strings.Contains(strings.Join(res.Warnings, "\n"), tc.warning) || (tc.warning == "") != (len(res.Warnings) == 0) {
			t.Errorf("%s: %q, warnings %q", tc.query, got, res.Warnings)
		}
		q.Limits.CutSeries = false
		if _, err := engine.New(engine.Options{}).Instant(context.Background(), q, 60*sec); (err != nil) != (tc.warning != "") {
			t.Errorf("%s without a cut: %v", tc.query, err)
		}
	}
	// Over a range the sum over time decides, and points of others go.
	q := engine.RangeQuery{Query: engine.Query{Expr: parse(t, `count_over_time({app=~".+"}[2s])`), Sources: []engine.Source{engine.Local(enginetest.NewStore(all...), "s")}},
		End: 10 * sec, Step: 2 * time.Second}
	q.Limits.MaxSeries, q.Limits.CutSeries = 1, true
	res, err := run(q)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Matrix) != 1 || res.Matrix[0].Labels.Get("app") != "a8" || len(res.Matrix[0].Points) != 5 {
		t.Errorf("%+v", res.Matrix)
	}
}
