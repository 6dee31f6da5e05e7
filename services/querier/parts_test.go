package querier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Without them all is right, but slow.
var (
	_ engine.Clipper = blockSession{}
	_ engine.Clipper = &storedSession{}
	_ engine.Parter  = blockSession{}
)

// Blocks that overlap in time, but hardly in their streams, are counted without a row being
// read; if a stream has rows of the same time in both, it alone is read, and if most have, what
// lies outside of that time is told apart. A block that is
// damaged is named, whichever part of it is asked for, and an answer in part goes on without it.
func TestBlocksAreToldApartByStreams(t *testing.T) {
	for touch := range 3 { // no stream, one, or all
		s := newShop(t)
		var held [2][]row
		var all []row
		for k := range 20 {
			list := rows(fmt.Sprintf("a%02d", k), 1, 61)
			all = append(all, list...)
			held[0], held[1] = append(held[0], list[:20+k]...), append(held[1], list[20+k:]...)
			if touch == 2 || touch == 1 && k == 7 {
				held[1] = append(held[1], list[10+k/2])
			}
		}
		bad := s.put(nil, held[0]...)
		s.put(nil, held[1]...)
		s.refresh()
		s.lines(`{app="a00"} |= "absent"`) // opens them
		gets := s.gets()
		res, err := s.ask(`sum(count_over_time({app=~".+"}[1d]))`, false)
		s.must(err)
		if n := res.Matrix[0].Points[len(res.Matrix[0].Points)-1].Value; n != float64(len(all)) {
			t.Errorf("touch %v: counted %v of %d", touch, n, len(all))
		}
		if n := res.Statistics.StreamsMatched; n > 20 {
			t.Errorf("touch %v: %d streams", touch, n)
		}
		if n := res.Statistics.BytesRead; touch == 1 && n > 61*30 {
			t.Errorf("reads %d bytes of lines for one stream", n)
		}
		if got := gets(); (len(got) > 0) != (touch > 0) {
			t.Errorf("touch %v: reads %v", touch, got)
		}
		s.same("all", s.lines(`{app=~".+"}`), textOf(all))

		s.reopen(1 << 20)
		s.refresh()
		if _, err := s.blocks.acquire(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
		s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
		for _, query := range []string{`{app="a03"}`, `{app=~"a0[5-9]"}`, `{app=~".+"}`, `sum(count_over_time({app=~".+"} |~ "req.*done" [1d]))`} {
			if _, err := s.ask(query, false); !rpcerr.Is(err, rpcerr.DataLoss) || !strings.Contains(err.Error(), catalog.Key(bad)) {
				t.Errorf("touch %v, %s: %v", touch, query, err)
			}
		}
		res, err = s.ask(`{app=~".+"}`, true)
		s.must(err)
		if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], catalog.Key(bad)) {
			t.Errorf("touch %v: warnings %q", touch, res.Warnings)
		}
		left := textOf(held[1])
		slices.Sort(left)
		got := linesOf(res)
		slices.Sort(got)
		s.same("in part", got, left)

		// A panic of who reads a part names the block likewise.
		s.reopen(1 << 20)
		s.refresh()
		s.bucket.Flip = nil
		if _, err := s.blocks.acquire(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
		s.bucket.Before = func(_ context.Context, op, key string) error {
			if key == catalog.Key(bad) {
				panic("in " + op)
			}
			return nil
		}
		for _, query := range []string{`{app=~".+"}`, `sum(count_over_time({app=~".+"} |~ "req.*done" [1d]))`} {
			func() {
				defer func() {
					if p := engine.Recovered(recover()); p.Told == nil || !strings.Contains(p.Told.Error(), catalog.Key(bad)) {
						t.Errorf("touch %v, %s: %v, told %v", touch, query, p.Value, p.Told)
					}
				}()
				_, err := s.ask(query, false)
				t.Errorf("touch %v, %s: no panic, but %v", touch, query, err)
			}()
		}
	}
}

// bug is a session of which no part can be made without a panic, nor is it told what it shares.
type bug struct{ engine.Session }

func (b bug) Unwrap() engine.Session                                         { return b.Session }
func (bug) Clip(context.Context, int64, int64) (engine.Session, bool, error) { panic("bug") }
func (bug) Part([]int) (engine.Session, bool)                                { panic("bug") }
func (bug) Touching(context.Context, engine.Session, bool) (engine.Touches, bool, error) {
	panic("bug")
}

// So does one of who makes the part; one of who looks for streams that two blocks share names both.
func TestPanicsOfPartsNameTheBlock(t *testing.T) {
	s := newShop(t)
	b, other := s.put(nil, rows("a", 0, 5)...), s.put(nil, rows("a", 5, 5)...)
	of := blockSession{bug{}, blockSource{block: b, in: s.blocks}}
	for what, do := range map[string]func(){
		"clip":  func() { _, _, _ = of.Clip(t.Context(), 0, 1) },
		"part":  func() { _, _ = of.Part(nil) },
		"touch": func() { _, _, _ = of.Touching(t.Context(), blockSession{of: blockSource{block: other}}, true) },
	} {
		func() {
			defer func() {
				p := engine.Recovered(recover())
				if p.Told == nil || !strings.Contains(p.Told.Error(), catalog.Key(b)) || (what == "touch") != strings.Contains(p.Told.Error(), catalog.Key(other)) {
					t.Errorf("%s: %v, told %v", what, p.Value, p.Told)
				}
			}()
			do()
		}()
	}
}

type bugSource struct{ engine.Source }

func (b bugSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := b.Source.Open(ctx, matchers, start, end)
	return bug{s}, err
}

// A query over blocks that overlap asks their sessions which streams they share, so that a panic
// there has the names.
func TestPanicOfTouchingNamesTheBlocks(t *testing.T) {
	s := newShop(t)
	var keys []string
	for k := range 2 {
		b := s.put(nil, append(rows(fmt.Sprint("a", k), 0, 60), rows(fmt.Sprint("b", k), 10, 60)...)...)
		keys = append(keys, catalog.Key(b))
		s.refresh()
		o, err := s.blocks.acquire(t.Context(), b)
		s.must(err)
		of := o.source.(blockSource)
		of.Source = bugSource{of.Source}
		o.source = of
	}
	defer func() {
		p := engine.Recovered(recover())
		if p.Told == nil || !strings.Contains(p.Told.Error(), keys[0]) || !strings.Contains(p.Told.Error(), keys[1]) {
			t.Errorf("%v, told %v", p.Value, p.Told)
		}
		if n := testutil.ToFloat64(s.blocks.panics); n != 1 {
			t.Errorf("%v panics are counted", n)
		}
	}()
	res, err := s.ask(`sum(count_over_time({app=~".+"}[1d]))`, false)
	t.Errorf("no panic, but %v, %v", res, err)
}
