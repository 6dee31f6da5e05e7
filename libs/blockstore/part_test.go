package blockstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// A part of what was opened has the streams, the runs and the extent of what is opened for its
// times, without the streams that were left out.
func TestPartIsWhatIsOpenedForIt(t *testing.T) {
	ctx := context.Background()
	left := 0 // streams with no rows then
	rapid.Check(t, func(t *rapid.T) {
		var all []enginetest.Entry
		for k := range 12 {
			from := rapid.Int64Range(0, 40).Draw(t, "from")
			for i := range rapid.IntRange(1, 6).Draw(t, "rows") {
				all = append(all, enginetest.Entry{Labels: podLabels(k), Time: (from + int64(i)*3) * 10 * sec, Line: fmt.Sprint("line ", i)})
			}
		}
		b := openBlock(t, &object{b: copyOf(t, enginetest.NewStore(all...), block.Options{NarrowRuns: true})})
		store := blockstore.NewStore(b, blockstore.NewCache(1<<20, nil))
		from := rapid.Int64Range(-10, 600).Draw(t, "start") * sec
		to := from + rapid.Int64Range(0, 600).Draw(t, "span")*sec
		open := func(start, end int64) engine.Snapshot {
			s, err := store.Open(ctx, nil, start, end)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		texts := func(streams []engine.Stream) (out []string) {
			for _, s := range streams {
				out = append(out, fmt.Sprint(s.Labels, s.Runs))
			}
			return out
		}
		whole := open(0, 500*sec)
		defer whole.Close()
		of := whole.Streams()
		var some []int // nil: all
		if rapid.Bool().Draw(t, "some") {
			some = []int{}
			for i := range of {
				if rapid.Bool().Draw(t, "there") {
					some = append(some, i)
				}
			}
		}
		part := whole.(engine.Parted).Part(some, from, to)
		defer part.Close()
		want := open(max(from, 0), min(to, 500*sec))
		defer want.Close()
		var streams []engine.Stream
		for _, s := range want.Streams() {
			i := slices.IndexFunc(of, func(o engine.Stream) bool { return o.Labels.Equal(s.Labels) })
			if some == nil || slices.Contains(some, i) {
				streams = append(streams, s)
			}
		}
		if got, want := texts(part.Streams()), texts(streams); !slices.Equal(got, want) {
			t.Fatalf("[%d, %d) of streams %v:\n got %v\nwant %v", from/sec, to/sec, some, got, want)
		}
		if e, n := part.(engine.Indexed).Extent(), len(streams); e.Streams != n {
			t.Fatalf("%d streams, not %d", e.Streams, n)
		}
		left += len(of) - len(want.Streams())
	})
	if left == 0 {
		t.Fatal("all streams had rows")
	}
}

// tended is a session that tells if it is closed twice, or before a part of it.
type tended struct {
	engine.Session
	of    *tended // which it is a part of
	parts int     // of it that are not closed
	ended bool
	told  *tales
}

// tales is what became of the sessions of a query, which may open several at once.
type tales struct {
	t          *testing.T
	mu         sync.Mutex // of what sessions note, too
	open, made int
}

func (s *tended) Unwrap() engine.Session { return s.Session }

func (s *tended) part(p engine.Session) *tended {
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	s.parts++
	s.told.open++
	s.told.made++
	return &tended{Session: p, of: s, told: s.told}
}

func (s *tended) Clip(ctx context.Context, start, end int64) (engine.Session, bool, error) {
	p, ok, err := s.Session.(engine.Clipper).Clip(ctx, start, end)
	if !ok || err != nil {
		return nil, ok, err
	}
	return s.part(p), true, nil
}

func (s *tended) Part(streams []int) (engine.Session, bool) {
	p, ok := s.Session.(engine.Parter).Part(streams)
	if !ok {
		return nil, false
	}
	return s.part(p), true
}

func (s *tended) Touching(ctx context.Context, other engine.Session, copies bool) (engine.Touches, bool, error) {
	return s.Session.(engine.Parter).Touching(ctx, other, copies)
}

func (s *tended) Close() error {
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	if s.ended || s.parts > 0 {
		s.told.t.Errorf("a session is closed, with %d parts open; twice: %v", s.parts, s.ended)
	}
	s.ended = true
	s.told.open--
	if s.of != nil {
		s.of.parts--
	}
	return s.Session.Close()
}

type tendedSource struct {
	engine.Source
	told *tales
}

func (s tendedSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	of, err := s.Source.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	s.told.open++
	return &tended{Session: of, told: s.told}, nil
}

// Blocks that overlap are cut by time, and where they hardly have rows of the same streams then
// by streams. Each part is closed once, and before what it is a part of.
func TestPartsAreClosedFirst(t *testing.T) {
	told := &tales{t: t}
	cache := blockstore.NewCache(1<<20, nil)
	var sources []engine.Source
	n := 0
	for b, from := range []int64{0, 5, 40, 50} {
		var all []enginetest.Entry
		for k := range 16 {
			for i := range int64(20) {
				if b == 2 && k > 7 && i >= 10 || b == 3 && k < 7 && i < 10 {
					continue // one stream has rows of both of the last two blocks at the same times
				}
				all = append(all, enginetest.Entry{Labels: podLabels(k), Time: (from + i) * sec, BatchTime: int64(b), Line: fmt.Sprint("line ", b, i)})
			}
		}
		n += len(all)
		block := openBlock(t, &object{b: copyOf(t, enginetest.NewStore(all...), block.Options{NarrowRuns: true})})
		sources = append(sources, tendedSource{engine.Local(blockstore.NewStore(block, cache), fmt.Sprint("b", b)), told})
	}
	for _, text := range []string{`sum(count_over_time({pod=~".+"}[1h]))`, `sum(count_over_time({pod=~".+"} |= "line" [1h]))`} {
		told.made = 0
		res, err := engine.New(engine.Options{}).Instant(context.Background(), engine.Query{Expr: parse(t, text), Sources: []engine.Source{engine.Union("u", sources...)}}, 3000*sec)
		if err != nil || res.Vector[0].Value != float64(n) {
			t.Errorf("%s: %v, %v, not %d", text, res, err, n)
		}
		if told.open != 0 || told.made < 10 {
			t.Errorf("%s: %d sessions are open, %d parts were made", text, told.open, told.made)
		}
	}
}
