package querier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// A damaged block is an error that names it, or a warning where an answer in part will do;
// then the other blocks are there.
func TestDamagedBlock(t *testing.T) {
	s := newShop(t)
	a, b := rows("a", 0, 50), rows("b", 0, 50)
	bad := s.put(nil, a...)
	s.put(nil, b...)
	s.refresh()
	for _, opened := range []bool{false, true} {
		s.bucket.Flip = nil
		if s.reopen(1 << 20); opened {
			s.refresh()
			if _, err := s.blocks.acquire(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
		}
		s.refresh()
		s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
		_, err := s.ask(`{app=~".+"}`, false)
		if !rpcerr.Is(err, rpcerr.DataLoss) || !strings.Contains(err.Error(), catalog.Key(bad)) {
			t.Errorf("opened %v: %v", opened, err)
		}
		for _, query := range []string{`{app=~".+"}`, `sum(count_over_time({app=~".+"} |~ "req.*done" [1d]))`} {
			res, err := s.ask(query, true)
			if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], catalog.Key(bad)) {
				t.Fatalf("opened %v: %v, %+v", opened, err, res)
			}
			if res.Type == engine.TypeStreams {
				s.same("in part", linesOf(res), textOf(b))
				continue
			}
			sum := 0.
			for _, p := range res.Matrix[0].Points {
				sum += p.Value
			}
			if sum != 50 {
				t.Errorf("counted %v", res.Matrix)
			}
		}
		if n := testutil.ToFloat64(s.blocks.found); n != 1 {
			t.Errorf("opened %v: %v damaged blocks are counted", opened, n)
		}
	}
}

// What a damaged block was merged from is read in its place, as long as all of that is there.
func TestSourcesOfADamagedBlockAreRead(t *testing.T) {
	for _, opened := range []bool{false, true} { // its index cannot be read, or its rows
		for _, parts := range []int{1, 2} {
			s := newShop(t)
			a, b := rows("a", 0, 50), rows("a", 25, 75)
			both := rows("a", 0, 75)
			sources := []catalog.Block{s.put(nil, a...), s.put(nil, b...)}
			merge, cut := s.id(), 75/parts
			bad := s.putPart(sources, 0, parts, merge, both[:cut]...)
			if parts > 1 {
				s.putPart(sources, 1, parts, merge, both[cut:]...)
			}
			s.reopen(1 << 20)
			s.refresh()
			s.same("whole", s.lines(`{app="a"}`), textOf(both))
			s.reopen(1 << 20)
			s.refresh()
			if opened {
				o, err := s.blocks.acquire(t.Context(), bad)
				s.must(err)
				s.blocks.release(o)
			}
			s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
			for range 2 {
				s.same("instead", s.lines(`{app="a"}`), textOf(both))
				res, err := s.ask(`sum(count_over_time({app="a"} |~ "req.*done" [1d]))`, true)
				if err != nil || len(res.Warnings) > 0 || len(res.Matrix) != 1 {
					t.Fatalf("opened %v, %d parts: %v, %+v", opened, parts, err, res)
				}
				sum := 0.
				for _, p := range res.Matrix[0].Points {
					sum += p.Value
				}
				if sum != 75 {
					t.Errorf("opened %v, %d parts: counted %v", opened, parts, sum)
				}
			}
			if n := testutil.ToFloat64(s.blocks.found); n != 1 {
				t.Errorf("opened %v, %d parts: %v damaged blocks are counted", opened, parts, n)
			}
			// Without one of them it is damage again.
			s.must(s.objects.Delete(t.Context(), catalog.Key(sources[1])))
			s.bucket.Flip = nil
			s.refresh()
			s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
			if _, err := s.ask(`{app="a"}`, false); !rpcerr.Is(err, rpcerr.DataLoss) || !strings.Contains(err.Error(), catalog.Key(bad)) {
				t.Errorf("opened %v, %d parts: %v", opened, parts, err)
			}
		}
	}
}

// A block whose index is damaged is listed, for its footer is not, and hides its sources: they
// are read all the same.
func TestSourcesOfADamagedIndexAreRead(t *testing.T) {
	s := newShop(t)
	a, b := rows("a", 0, 50), rows("a", 25, 75)
	bad := s.put([]catalog.Block{s.put(nil, a...), s.put(nil, b...)}, rows("a", 0, 75)...)
	body, err := objstore.ReadAll(t.Context(), s.objects, catalog.Key(bad), 1<<20)
	s.must(err)
	tail := len(body) - 20 // which begins with the length of the footer; the index is before that
	body[tail-int(binary.LittleEndian.Uint32(body[tail:]))-1] ^= 1
	s.must(objstore.PutBytes(t.Context(), s.objects, catalog.Key(bad), body))
	s.refresh()
	snap, err := s.loader.Snapshot("t")
	s.must(err)
	if live := snap.Live("t", math.MinInt64, math.MaxInt64); len(live) != 1 || live[0].ID != bad.ID {
		t.Fatalf("live: %v", live)
	}
	for range 2 {
		s.same("instead", s.lines(`{app="a"}`), textOf(rows("a", 0, 75)))
	}
	if n := testutil.ToFloat64(s.blocks.found); n != 1 {
		t.Errorf("%v damaged blocks are counted", n)
	}
}

// A store that is away is no damage.
func TestStoreAwayIsNoDamage(t *testing.T) {
	s := newShop(t)
	b := s.put(nil, rows("a", 0, 50)...)
	s.refresh()
	if _, err := s.blocks.acquire(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.bucket.Before = func(context.Context, string, string) error { return objstore.ErrUnavailable }
	if _, err := s.ask(`{app="a"}`, false); !rpcerr.Is(err, rpcerr.Unavailable) {
		t.Error(err)
	}
	if n := testutil.ToFloat64(s.blocks.found); n != 0 {
		t.Errorf("%v damaged blocks are counted", n)
	}
}

// An equal copy makes up for a damaged block.
func TestR18EqualCopyIsRead(t *testing.T) {
	s := newShop(t)
	all := rows("a", 0, 50)
	one, two := s.put(nil, all...), s.put(nil, all...)
	s.refresh()
	told := map[float64]int{}
	for _, bad := range []catalog.Block{one, two} {
		s.reopen(1 << 20)
		s.refresh()
		for _, b := range []catalog.Block{one, two} {
			if _, err := s.blocks.acquire(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		s.bucket.Flip = func(key string) bool { return key == catalog.Key(bad) }
		for range 2 {
			s.same("a copy", s.lines(`{app="a"}`), textOf(all))
		}
		s.bucket.Flip = nil
		// No answer tells of it; the log and a metric do, once.
		told[testutil.ToFloat64(s.blocks.found)]++
	}
	if told[0] != 1 || told[1] != 1 { // the one that is read is the same each time
		t.Errorf("damaged blocks are counted %v times", told)
	}
}

// A block that vanished is data loss in every answer that it may touch, but not an error.
func TestR16VanishedBlock(t *testing.T) {
	s := newShop(t)
	a, b := rows("a", 0, 50), rows("b", 0, 50)
	lost := s.put(nil, a...)
	s.put(nil, b...)
	s.refresh()
	// It is open, and vanishes behind the listing.
	if _, err := s.blocks.acquire(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	s.must(s.objects.Delete(t.Context(), catalog.Key(lost)))
	for range 2 {
		res, err := s.ask(`{app=~".+"}`, false)
		if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "data_loss: block "+catalog.Key(lost)) {
			t.Fatalf("%v, %+v", err, res)
		}
		s.same("the rest", linesOf(res), textOf(b))
	}
	// Not before it is listed anew, if something was given out.
	if rerun(t.Context(), []engine.Source{&stored{blocks: s.blocks, tenant: "t", vanished: true}}, func() bool { return true }, func() error { return context.Canceled }) == nil {
		t.Error("no error")
	}
}

// Blocks that vanish while they are read are replaced by what they were merged into, and
// a query is answered as if nothing had happened.
func TestR16ReplacedDuringAQuery(t *testing.T) {
	for _, when := range []string{"when it is opened", "when it is read"} {
		s := newShop(t)
		a, b := rows("a", 0, 50), rows("a", 50, 90)
		one, two := s.put(nil, a...), s.put(nil, b...)
		s.refresh()
		if when == "when it is read" {
			for _, x := range []catalog.Block{one, two} {
				o, err := s.blocks.acquire(t.Context(), x)
				s.must(err)
				s.blocks.release(o)
			}
		}
		s.put([]catalog.Block{one, two}, append(slices.Clone(a), b...)...)
		s.must(s.objects.Delete(t.Context(), catalog.Key(one)))
		s.must(s.objects.Delete(t.Context(), catalog.Key(two)))
		s.same(when, s.lines(`{app="a"} |~ "req.*done"`), textOf(a, b))
	}
}

// A listing that is too old makes the store's part unavailable.
func TestR16StaleListing(t *testing.T) {
	s := newShop(t)
	a := rows("a", 0, 50)
	s.put(nil, a...)
	s.refresh()
	away := func(_ context.Context, op, _ string) error {
		if op == "list" {
			return objstore.ErrUnavailable
		}
		return nil
	}
	s.bucket.Before = away
	s.same("fresh", s.lines(`{app="a"}`), textOf(a))
	s.now = s.now.Add(catalog.DefaultMaxAge + time.Second)
	_, err := s.ask(`{app="a"}`, false)
	if err == nil || !errors.Is(err, engine.ErrIncomplete) || !strings.Contains(err.Error(), storeName) {
		t.Errorf("stale: %v", err)
	}
	res, err := s.ask(`{app="a"}`, true)
	if err != nil || len(res.Warnings) != 1 || len(linesOf(res)) != 0 {
		t.Errorf("in part: %v, %+v", err, res)
	}
	s.bucket.Before = nil
	s.same("back", s.lines(`{app="a"}`), textOf(a))
}

// uploader is an ingester's session that says what was uploaded.
type uploader struct {
	engine.Session
	keys []string
}

func (u uploader) Opened() *ingestv1.Opened { return &ingestv1.Opened{UploadedBlocks: u.keys} }

// Blocks that ingesters have uploaded are read even if no listing shows them.
func TestR11UploadedBlocksAreReadFirst(t *testing.T) {
	s := newShop(t)
	s.refresh()
	s.must(s.bucket.Freeze(t.Context()))
	s.bucket.Stale = true
	b := s.put(nil, rows("a", 0, 50)...)
	s.refresh()
	src := &stored{blocks: s.blocks, tenant: "t"}
	for _, c := range []struct {
		keys []string
		want int
	}{{nil, 0}, {[]string{catalog.Key(b), catalog.Key(b)}, 1}, {nil, 1}} {
		ses, err := src.OpenAfter(t.Context(), []engine.Session{nil, uploader{keys: c.keys}}, nil, day.UnixNano(), day.Add(time.Hour).UnixNano())
		s.must(err)
		if n := len(ses.Streams()); n != c.want {
			t.Errorf("%v: %d streams", c.keys, n)
		}
		s.must(ses.Close())
	}
}

// A block is opened once, however many ask; one whose asker has given up is opened for
// the others.
func TestOpenOnce(t *testing.T) {
	s := newShop(t)
	b := s.put(nil, rows("a", 0, 50)...)
	s.refresh()
	var gets atomic.Int64
	gate := make(chan struct{})
	s.bucket.Before = func(ctx context.Context, op, _ string) error {
		if op == "get" && gets.Add(1) == 1 {
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.blocks.acquire(impatient, b); !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
	})
	for gets.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var got [20]*openBlock
	for i := range got {
		wg.Go(func() {
			o, err := s.blocks.acquire(t.Context(), b)
			if err != nil {
				t.Error(err)
			}
			got[i] = o
		})
	}
	cancel()
	wg.Wait()
	close(gate)
	if slices.ContainsFunc(got[:], func(o *openBlock) bool { return o != got[0] }) {
		t.Error("it was opened several times")
	}
	if !s.blocks.inUse(b.ID) {
		t.Error("not in use")
	}
	for _, o := range got {
		s.blocks.release(o)
	}
	if s.blocks.inUse(b.ID) || len(s.blocks.open) != 0 || s.blocks.bytes != 0 {
		t.Errorf("in use, or open: %d blocks, %d bytes", len(s.blocks.open), s.blocks.bytes)
	}
}

// A slow store ends with the query's time; nothing stays behind.
func TestSlowStore(t *testing.T) {
	s := newShop(t)
	s.put(nil, rows("a", 0, 50)...)
	s.refresh()
	s.bucket.Before = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := (&stored{blocks: s.blocks, tenant: "t", partial: true}).Open(ctx, nil, day.UnixNano(), day.Add(time.Hour).UnixNano())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	s.bucket.Before = nil
	s.same("later", s.lines(`{app="a"}`), textOf(rows("a", 0, 50)))
}

// Indexes of blocks that nobody uses take no more memory than they may.
func TestIdleBlocksAreBounded(t *testing.T) {
	s := newShop(t)
	var all [][]row
	for i := range 12 {
		all = append(all, rows(fmt.Sprint("app", i), 0, 20))
		s.put(nil, all[i]...)
	}
	s.reopen(8 << 10)
	s.refresh()
	for range 3 {
		s.same("all", s.lines(`{app=~".+"}`), textOf(all...))
		if s.blocks.bytes > 8<<10 || s.blocks.idle.Len() != len(s.blocks.open) {
			t.Errorf("%d bytes, %d idle of %d", s.blocks.bytes, s.blocks.idle.Len(), len(s.blocks.open))
		}
	}
	if n := len(s.blocks.open); n == 0 || n == 12 {
		t.Errorf("%d blocks are open", n)
	}
}

// Whatever blocks replicas wrote, and however far merges of them are, answers are those
// of one clean copy, counts included.
func TestR12R13ReplicasAndOverlappingMerges(t *testing.T) {
	queries := []string{
		`{app=~".+"}`, `{app="a1"} |= "request 1"`, `sum by (app) (count_over_time({app=~".+"}[1d]))`,
		`sum(bytes_over_time({app=~"a[12]"} |~ "7|3" [1d]))`,
	}
	rapid.Check(t, func(r *rapid.T) {
		clean, s := newShop(t), newShop(t)
		var all []row
		for i := range 3 {
			all = append(all, rows(fmt.Sprint("a", i), 0, rapid.IntRange(1, 60).Draw(r, "rows"))...)
		}
		clean.put(nil, all...)
		var blocks []catalog.Block
		held := map[catalog.ID][]row{}
		add := func(sources []catalog.Block, list []row) {
			if len(list) > 0 {
				b := s.put(sources, list...)
				held[b.ID] = list
				blocks = append(blocks, b)
			}
		}
		// Each replica cuts as it likes; one may lack some entries.
		for replica := range 3 {
			cut, gap := rapid.IntRange(0, 60).Draw(r, "cut"), rapid.IntRange(-1, 60).Draw(r, "gap")
			var early, late []row
			for _, x := range all {
				switch {
				case replica == 2 && x.at == gap:
				case x.at < cut:
					early = append(early, x)
				default:
					late = append(late, x)
				}
			}
			add(nil, early)
			add(nil, late)
		}
		for range rapid.IntRange(0, 3).Draw(r, "merges") {
			var sources []catalog.Block
			var list []row
			for _, b := range blocks {
				if rapid.Bool().Draw(r, "merged") {
					sources = append(sources, b)
					list = append(list, held[b.ID]...)
				}
			}
			// It has one result or two, of which one may not be there yet.
			cut := rapid.IntRange(-1, 60).Draw(r, "cut")
			parts := [2][]row{}
			for _, x := range list {
				if cut >= 0 && x.at >= cut {
					parts[1] = append(parts[1], x)
				} else {
					parts[0] = append(parts[0], x)
				}
			}
			if len(parts[1]) == 0 {
				add(sources, list)
				continue
			}
			merge, half := s.id(), rapid.IntRange(0, 2).Draw(r, "missing")
			for i, part := range parts {
				if i != half && len(part) > 0 {
					b := s.putPart(sources, i, 2, merge, part...)
					held[b.ID] = part
					blocks = append(blocks, b)
				}
			}
		}
		clean.refresh()
		s.refresh()
		for _, q := range queries {
			want, err := clean.ask(q, false)
			clean.must(err)
			got, err := s.ask(q, false)
			s.must(err)
			if fmt.Sprint(got.Streams, got.Matrix) != fmt.Sprint(want.Streams, want.Matrix) {
				r.Fatalf("%s:\ngot  %v %v\nwant %v %v", q, got.Streams, got.Matrix, want.Streams, want.Matrix)
			}
		}
	})
}

// Those who wait for a block that somebody else opens, or reads, learn of his panic as of a
// bug, with the block's name, not as of damage.
func TestPanicIsNoDamage(t *testing.T) {
	s := newShop(t)
	a := rows("a", 0, 50)
	b := s.put(nil, a...)
	s.refresh()
	began, end := make(chan struct{}), make(chan struct{})
	s.bucket.Before = func(_ context.Context, op, key string) error {
		if key == catalog.Key(b) {
			close(began)
			<-end
			panic("in " + op)
		}
		return nil
	}
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		_, _ = s.blocks.acquire(t.Context(), b)
	}()
	<-began
	waits := make(chan error, 1)
	go func() { _, err := s.blocks.acquire(t.Context(), b); waits <- err }()
	for users := 0; users < 2; runtime.Gosched() {
		s.blocks.mu.Lock()
		users = s.blocks.open[b.ID].users
		s.blocks.mu.Unlock()
	}
	close(end)
	if p := <-done; p == nil {
		t.Error("no panic")
	}
	check := func(what string, err error) {
		t.Helper()
		if err = damage(err); !rpcerr.Is(err, rpcerr.Internal) || err.Error() != "block "+catalog.Key(b)+": internal error" {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("opened", <-waits)
	source := blockSource{block: b, in: s.blocks}
	waited := &block.Error{Block: b.ID, Section: 0, Group: 1, Err: blockstore.ErrPanic}
	check("read", source.of(waited))
	if err := s.blocks.left(b, waited); err != nil {
		t.Error("read ahead:", err)
	}
	if bugs, damaged := testutil.ToFloat64(s.blocks.panics), testutil.ToFloat64(s.blocks.found); bugs != 1 || damaged != 0 {
		t.Errorf("%v bugs, %v damaged blocks", bugs, damaged)
	}
	s.bucket.Before = nil
	s.same("afterwards", s.lines(`{app="a"}`), textOf(a))
}

// A panic of those who read a block says which it was to who asked, and ends nobody else:
// the next who asks is answered.
func TestPanicNamesTheBlock(t *testing.T) {
	for _, when := range []string{"when it is opened", "when it is read"} {
		s := newShop(t)
		a := rows("a", 0, 50)
		b := s.put(nil, a...)
		s.refresh()
		if when == "when it is read" {
			o, err := s.blocks.acquire(t.Context(), b)
			s.must(err)
			s.blocks.release(o)
		}
		s.bucket.Before = func(_ context.Context, op, key string) error {
			if key == catalog.Key(b) {
				panic("in " + op)
			}
			return nil
		}
		for _, q := range []string{`{app="a"} |~ "req.*done"`, `count_over_time({app="a"} |= "done" [1h])`} {
			func() {
				defer func() {
					p := engine.Recovered(recover())
					if told, ok := errors.AsType[*rpcerr.Error](p); !ok || told.Error() != "block "+catalog.Key(b)+": internal error" || !strings.HasPrefix(fmt.Sprint(p.Value), "in ") {
						t.Errorf("%s, %s: %v", when, q, p)
					}
				}()
				res, err := s.ask(q, false)
				t.Errorf("%s, %s: %v, %v", when, q, res, err)
			}()
		}
		if bugs, damaged := testutil.ToFloat64(s.blocks.panics), testutil.ToFloat64(s.blocks.found); bugs != 2 || damaged != 0 || len(s.blocks.damaged) != 0 {
			t.Errorf("%s: %v bugs, %v damaged blocks", when, bugs, damaged)
		}
		s.bucket.Before = nil
		s.same(when, s.lines(`{app="a"}`), textOf(a))
	}
}
