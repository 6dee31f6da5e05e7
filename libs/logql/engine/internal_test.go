package engine

import (
	"bytes"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

// Each time falls into the buckets of exactly those windows that it lies in, and
// all times up to the one that bucket returns do alike.
func TestGrid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(-50, 50).Draw(t, "start")
		step := rapid.Int64Range(0, 20).Draw(t, "step")
		interval := rapid.Int64Range(1, 60).Draw(t, "interval")
		g := newGrid(start, start+rapid.Int64Range(0, 100).Draw(t, "length"), step, interval)
		for at := start - 70; at < start+130; at++ {
			b, last := g.bucket(at)
			if last < at {
				t.Fatalf("bucket of %d ends at %d", at, last)
			}
			if b2, _ := g.bucket(min(last, start+200)); b2 != b {
				t.Fatalf("%d is in bucket %d, %d in %d", at, b, last, b2)
			}
			in := false
			for k := range g.steps {
				end := start + int64(k)*step
				want := at > end-interval && at <= end
				first, last := g.window(k)
				if got := b >= first && b <= last; got != want {
					t.Fatalf("%+v: time %d, bucket %d, window %d [%d, %d]: got %v, want %v", g, at, b, k, first, last, got, want)
				}
				if want && !in && g.stepOf(b) != k {
					t.Fatalf("%+v: first step of bucket %d: got %d, want %d", g, b, g.stepOf(b), k)
				}
				in = in || want
			}
			if !in && b >= 0 {
				// Only between windows that do not reach each other.
				t.Fatalf("%+v: time %d is in no window, but in bucket %d", g, at, b)
			}
		}
	})
}

// A range of one step has one bucket, as an instant has, however short the step: lines of a
// day would be in as many buckets as it has steps.
func TestOneStepIsOneBucket(t *testing.T) {
	for _, q := range []*query{{start: 90, end: 90}, {start: 90, end: 90, step: 1}} {
		if g := newGrid(q.start, q.end, q.gridStep(), 60); g.buckets() != 1 || g.steps != 1 {
			t.Errorf("from %d to %d by %d: %d buckets", q.start, q.end, q.step, g.buckets())
		}
	}
	q := &query{start: 90, end: 110, step: 20}
	if g := newGrid(q.start, q.end, q.gridStep(), 60); g.steps != 2 {
		t.Errorf("%d steps", g.steps)
	}
}

// The search over the slab finds what a search line by line does.
func TestCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := &model.Rows{}
		lines := rapid.SliceOfN(rapid.StringMatching(`[ab]{0,6}`), 1, 40).Draw(t, "lines")
		for _, l := range lines {
			rows.Lines.AppendString(l)
		}
		p := &program{needle: []byte(rapid.StringMatching(`[ab]{0,3}`).Draw(t, "needle"))}
		from := rapid.IntRange(0, len(lines)-1).Draw(t, "from")
		to := rapid.IntRange(from, len(lines)).Draw(t, "to")
		got := p.candidates(nil, rows, from, to)
		var want []int32
		for i := from; i < to; i++ {
			if bytes.Contains(rows.Lines.At(i), p.needle) {
				want = append(want, int32(i))
			}
		}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// However samples are cut into parts, the parts merge to the same.
func TestFoldsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 30).Draw(t, "values")
		for f := foldCount; f <= foldVariance; f++ {
			var whole, parts, part partial
			for _, v := range vs {
				f.add(&whole, f.one(v))
				f.add(&part, f.one(v))
				if rapid.Bool().Draw(t, "cut") {
					f.add(&parts, part)
					part = partial{}
				}
			}
			f.add(&parts, part)
			if parts.n != whole.n || math.Abs(parts.a-whole.a) > 1e-3 || math.Abs(parts.b-whole.b) > 1e-6*(1+whole.b) {
				t.Fatalf("fold %d: %+v and %+v", f, parts, whole)
			}
		}
	})
}

// Union plans read each row of sessions that are not skipped, and skip copies.
func TestUniteSkipsCopies(t *testing.T) {
	run := func(min, max int64, rows, digest uint64) Run {
		return Run{MinTime: min, MaxTime: max, Rows: rows, Bytes: 10 * rows, Digest: digest}
	}
	names := []string{"a", "b", "c"}
	for name, c := range map[string]struct {
		runs    [][]Run
		skipped int
		classes []int // of each piece
		rows    uint64
	}{
		"both united": {[][]Run{
			unionRuns(t, []Run{run(0, 9, 5, 7)}, []Run{run(8, 19, 5, 9)}),
			unionRuns(t, []Run{run(0, 14, 7, 10)}, []Run{run(12, 19, 3, 6)}), {run(0, 19, 10, 16)},
		}, 2, []int{1}, 10},
		"one has what two have":       {[][]Run{{run(0, 9, 5, 7)}, {run(9, 19, 5, 9)}, {run(0, 19, 10, 16)}}, 2, []int{1}, 10},
		"one has what two have, less": {[][]Run{{run(0, 9, 5, 7)}, {run(9, 19, 5, 9)}, {run(0, 19, 9, 16)}}, 0, []int{3}, 19},
		"united, a copy more": {[][]Run{
			unionRuns(t, []Run{run(0, 9, 5, 7)}, []Run{run(8, 19, 5, 9)}),
			unionRuns(t, []Run{run(0, 14, 7, 10)}, []Run{run(12, 19, 4, 8)}), nil,
		}, 0, []int{2}, 21},
		"united, no digest": {[][]Run{
			unionRuns(t, []Run{run(0, 9, 5, 7)}, []Run{run(8, 19, 5, 0)}),
			unionRuns(t, []Run{run(0, 9, 5, 7)}, []Run{run(8, 19, 5, 0)}), nil,
		}, 0, []int{2}, 20},
		"equal":             {[][]Run{{run(0, 9, 5, 7)}, {run(0, 9, 5, 7)}, {run(0, 9, 5, 7)}}, 2, []int{1}, 5},
		"apart":             {[][]Run{{run(0, 9, 5, 7)}, {run(10, 19, 5, 8)}, {run(20, 29, 5, 9)}}, 0, []int{1, 1, 1}, 15},
		"overlap":           {[][]Run{{run(0, 9, 5, 7)}, {run(9, 19, 5, 8)}, nil}, 0, []int{2}, 10},
		"equal, other cuts": {[][]Run{{run(0, 4, 2, 3), run(5, 9, 3, 4)}, {run(0, 9, 5, 7)}, nil}, 2, []int{1}, 5},
		"no digests":        {[][]Run{{run(0, 9, 5, 0)}, {run(0, 9, 5, 0)}, nil}, 0, []int{2}, 10},
		"other digest":      {[][]Run{{run(0, 9, 5, 1)}, {run(0, 9, 5, 2)}, nil}, 0, []int{2}, 10},
		"other count":       {[][]Run{{run(0, 9, 5, 1)}, {run(0, 9, 6, 1)}, nil}, 0, []int{2}, 11},
		"newest differs":    {[][]Run{{run(0, 9, 5, 7), run(10, 12, 2, 1)}, {run(0, 9, 5, 7), run(10, 13, 3, 2)}, nil}, 1, []int{1, 2}, 10},
		"one more":          {[][]Run{{run(0, 9, 5, 7)}, {run(0, 9, 5, 7)}, {run(3, 12, 2, 1)}}, 1, []int{2}, 7},
	} {
		streams := make([][]Stream, 3)
		for s, runs := range c.runs {
			if runs != nil {
				streams[s] = []Stream{{Labels: model.Labels{{Name: "x", Value: "y"}}, Runs: runs}}
			}
		}
		got, _ := unite(names, listsOf(streams), 0, 100, &holder{})
		if len(got) != 1 {
			t.Fatalf("%s: %d streams", name, len(got))
		}
		u := got[0]
		if u.skipped != c.skipped || u.rows != c.rows || len(u.pieces) != len(c.classes) {
			t.Errorf("%s: got %+v", name, u)
			continue
		}
		for i, n := range c.classes {
			if len(u.pieces[i].classes) != n {
				t.Errorf("%s: piece %d has %d classes, want %d", name, i, len(u.pieces[i].classes), n)
			}
		}
	}
}

// unionRuns are the runs of a union of sources that have runs of a stream.
func unionRuns(t *testing.T, runs ...[]Run) []Run {
	t.Helper()
	var streams [][]Stream
	var names []string
	for i, r := range runs {
		names = append(names, string(rune('a'+i)))
		streams = append(streams, []Stream{{Labels: model.Labels{{Name: "x", Value: "y"}}, Runs: r}})
	}
	got, _ := unite(names, listsOf(streams), 0, 100, &holder{})
	if len(got) != 1 {
		t.Fatalf("%d streams", len(got))
	}
	return got[0].known
}

// However work nests, no more helpers are at work than there may be, and all is done.
func TestHelpersAreBounded(t *testing.T) {
	before := helpers.limit.Load()
	defer helpers.limit.Store(before)
	for _, limit := range []int{0, 1, 3} {
		SetWorkers(limit)
		var now, most, done atomic.Int64
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				spread(10, func(int) {
					spread(10, func(int) {
						n := now.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						runtime.Gosched()
						done.Add(1)
						now.Add(-1)
					})
				})
			})
		}
		callers.Wait()
		if done.Load() != 200 || most.Load() > int64(limit+2) || helpers.busy.Load() != 0 {
			t.Errorf("%d helpers: %d done, %d at once, %d left", limit, done.Load(), most.Load(), helpers.busy.Load())
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(encodeCursor(&After{Stream: model.Labels{{Name: "a", Value: "b"}}, Key: model.OrderKey{Time: 5, Hash: 7}}, 9))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := decodeCursor(text, 9)
		if err != nil {
			return
		}
		b, err := decodeCursor(encodeCursor(a, 9), 9)
		if err != nil || !a.Stream.Equal(b.Stream) || a.Key != b.Key {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
	})
}

// listsOf returns listings of streams.
func listsOf(streams [][]Stream) (out []listing) {
	for _, l := range streams {
		out = append(out, listed(l))
	}
	return out
}
