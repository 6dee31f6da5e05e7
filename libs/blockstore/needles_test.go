package blockstore_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// idLine is a line full of what needles are cut from.
func idLine(r *rand.Rand, at time.Time) string {
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf("%s id=u%d seq=%d", at.Format("2006-01-02T15:04:05.000000Z"), 100000+r.IntN(900000), at.UnixMilli())
	case 1:
		return fmt.Sprintf("trace=%016x%016x from %d.%d.%d.%d", r.Uint64(), r.Uint64(), r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256))
	case 2:
		return fmt.Sprintf("req %08x-%04x-4%03x-a%03x-%012x took %dns", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16, r.IntN(1e9))
	case 3:
		return fmt.Sprintf("blk_%d pad=%010d of %d", r.Uint64()>>1, r.IntN(1e9), r.IntN(3))
	case 4:
		return fmt.Sprintf("user%d%06d at %s: %s", r.IntN(9), r.IntN(1e6), at.Format("02/Jan/2006:15:04:05"), []string{"ok", "refused by 7f00aa", "x9y8z7"}[r.IntN(3)])
	}
	return fmt.Sprintf("node-%d left, session %x%d", r.IntN(1e7), r.Uint32(), r.IntN(1000))
}

// idStore is a block of idLines, and its lines.
func idStore(t *testing.T, seed uint64, n int, o block.Options) (*object, *block.Reader, []string) {
	r := rand.New(rand.NewPCG(seed, 46))
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var entries []enginetest.Entry
	var all []string
	for i := range n {
		at = at.Add(time.Duration(r.Int64N(2e8)))
		line := idLine(r, at)
		all = append(all, line)
		entries = append(entries, enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i*3/n)}}),
			Time: at.UnixNano(), BatchTime: 1, Position: uint32(i), Line: line})
	}
	obj := &object{b: copyOf(t, enginetest.NewStore(entries...), o)}
	b, err := block.Open(context.Background(), far{obj, true}, int64(len(obj.b)))
	if err != nil {
		t.Fatal(err)
	}
	return obj, b, all
}

// needleIn cuts a needle from one of some lines, and mostly changes it.
func needleIn(r *rand.Rand, all []string) string {
	line := all[r.IntN(len(all))]
	n := min(len(line), 5+r.IntN(12))
	from := r.IntN(len(line) - n + 1)
	text := []byte(line[from : from+n])
	for range r.IntN(3) {
		text[r.IntN(n)] = "0123456789abcdef"[r.IntN(16)]
	}
	return string(text)
}

// rowsWith counts the rows that have a text, or have it in any case.
func rowsWith(store *blockstore.Store, text string, fold bool) (rows int, err error) {
	ctx := context.Background()
	sn, err := store.Open(ctx, nil, math.MinInt64, math.MaxInt64)
	if err != nil {
		return 0, err
	}
	defer sn.Close()
	f := &syntax.LineFilter{Op: syntax.LineContains, Alternatives: []syntax.LineMatch{{Text: text}}}
	if fold {
		f = &syntax.LineFilter{Op: syntax.LineRegexp, Alternatives: []syntax.LineMatch{{Text: "(?i)" + strings.ReplaceAll(text, ".", `\.`)}}}
	}
	sel := sn.(engine.Selective).Select(ctx, &engine.Need{Filters: []*syntax.LineFilter{f}}).(engine.Counter)
	for n := range sel.Parts() {
		if _, _, err := sel.Count(n, func(int64) (int, int64) { return 0, math.MaxInt64 }, func(_, _, n int) error { rows += n; return nil }); err != nil {
			return 0, err
		}
	}
	return rows, nil
}

// Needles are found as often as lines hold them where the cache has room for few row groups, so
// that these go and come while many search, and what searches found out about them stays.
func TestNeedlesInSmallCaches(t *testing.T) {
	searches := 60
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		searches = 15
	}
	for i, o := range []block.Options{{}, {Pages: true}, {Whole: true}} {
		o.RowGroupBytes, o.SectionBytes = 160<<10, 1
		_, b, all := idStore(t, uint64(i), 24000, o)
		big := blockstore.NewCache(1<<30, nil)
		if n, err := rowsWith(blockstore.NewStore(b, big), "", false); n != len(all) || err != nil {
			t.Fatal(n, err)
		}
		r := rand.New(rand.NewPCG(uint64(i), 9))
		for range 20 {
			if _, err := rowsWith(blockstore.NewStore(b, big), needleIn(r, all), false); err != nil {
				t.Fatal(err)
			}
		}
		for _, part := range []int64{2, 1} {
			cache := blockstore.NewCache(big.Size()*part/3, nil)
			store := blockstore.NewStore(b, cache)
			var found atomic.Int64
			var searching sync.WaitGroup
			for k := range uint64(3) {
				searching.Go(func() {
					r := rand.New(rand.NewPCG(uint64(i), k))
					for range searches {
						text, fold, want := needleIn(r, all), r.IntN(4) == 0, 0
						if strings.ContainsAny(text, `\[](){}+*?|^$`) {
							fold = false
						}
						for _, line := range all {
							if strings.Contains(line, text) || fold && strings.Contains(strings.ToLower(line), strings.ToLower(text)) {
								want++
							}
						}
						got, err := rowsWith(store, text, fold)
						if err != nil || got != want {
							t.Errorf("%+v: %q, in any case: %v: %d rows, want %d, %v", o, text, fold, got, want, err)
							return
						}
						found.Add(int64(got))
					}
				})
			}
			searching.Wait()
			if found.Load() == 0 {
				t.Error("nothing was found")
			}
			if cache.EmptyHits() == 0 {
				t.Error("nothing stayed")
			}
		}
	}
}

// Row groups that searches before tell a needle is not in are not read for it.
func TestRuledOutIsNotRead(t *testing.T) {
	o, b, all := idStore(t, 7, 12000, block.Options{RowGroupBytes: 200 << 10, Pages: true})
	cache := blockstore.NewCache(1<<30, nil)
	store := blockstore.NewStore(b, cache)
	r := rand.New(rand.NewPCG(1, 46))
	joined := strings.Join(all, "\n")
	absent := func() string {
		for {
			if s := fmt.Sprintf("%09d", r.IntN(1e9)); !strings.Contains(joined, s) {
				return s
			}
		}
	}
	search := func() (read int) {
		cache.Empty()
		o.mu.Lock()
		o.reads = nil
		o.mu.Unlock()
		if n, err := rowsWith(store, absent(), false); n > 0 || err != nil {
			t.Fatal(n, err)
		}
		return len(o.reads)
	}
	if search() == 0 {
		t.Fatal("the first search read nothing")
	}
	for range 30 {
		search()
	}
	none := 0
	for range 20 {
		if search() == 0 {
			none++
		}
	}
	if none < 10 {
		t.Errorf("%d of 20 searches read nothing of %d row groups", none, b.RowGroups())
	}
	// Who wants rows reads them.
	if n, err := rowsWith(store, all[0], false); n != 1 || err != nil {
		t.Error(n, err)
	}
}
