package head

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// drain reads a stream of a snapshot and returns its keys in reading order.
func drain(t *testing.T, sn engine.Snapshot, stream int, backward bool) (keys []model.OrderKey) {
	r := sn.Rows(stream, 0, 1<<60, backward)
	for {
		rows, from, to, err := r.Next()
		if errors.Is(err, io.EOF) {
			return keys
		}
		if err != nil {
			t.Error(err)
			return nil
		}
		for i := from; i < to; i++ {
			k := i
			if backward {
				k = to - 1 - (i - from)
			}
			if rows.Hash(k) != rows.Hashes[k] {
				t.Error("a row is not the one that its hash says")
			}
			keys = append(keys, rows.Key(k))
		}
	}
}

// While rows are appended, a snapshot stays what it was, its run agrees with its
// rows, and tails see each row once.
func TestSnapshotsAndTailsWhileRowsAreAppended(t *testing.T) {
	h := New()
	const appends = 400
	rnd := rand.New(rand.NewPCG(1, 2))
	ls := model.NewLabels([]model.Label{{Name: "a", Value: "b"}})
	var requests [][]Block
	for i := range appends {
		b := Block{Labels: ls, Text: ls.String()}
		for k := range 30 {
			b.Rows.Times = append(b.Rows.Times, int64(1+i/4+rnd.IntN(6)))
			b.Rows.Lines.AppendString(fmt.Sprint(rnd.IntN(40)))
			b.Rows.Positions = append(b.Rows.Positions, uint32(k))
		}
		if i%3 == 0 {
			c := model.Column{Name: fmt.Sprint("n", rnd.IntN(600))}
			c.Append(rnd.IntN(30), []byte("v"))
			c.Finish(30)
			b.Rows.Metadata = []model.Column{c}
		}
		for k := range b.Rows.Times {
			b.Rows.Hashes = append(b.Rows.Hashes, b.Rows.Hash(k))
		}
		requests = append(requests, []Block{b})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	added := 0
	wg.Go(func() {
		defer close(done)
		for i, r := range requests {
			added += h.Append("t", r, int64(1+rand.IntN(20)), uint64(i+1))
		}
	})
	for range 2 {
		wg.Go(func() {
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				sn, err := h.Store("t").Open(context.Background(), nil, 0, 1<<60)
				if err != nil || len(sn.Streams()) == 0 {
					continue
				}
				run := sn.Streams()[0].Runs[0]
				forward, backward := drain(t, sn, 0, false), drain(t, sn, 0, true)
				again := drain(t, sn, 0, false)
				slices.Reverse(backward)
				if !slices.Equal(forward, backward) || !slices.Equal(forward, again) {
					t.Error("a snapshot is not the same whenever and however it is read")
					return
				}
				if !slices.IsSortedFunc(forward, model.OrderKey.Compare) {
					t.Error("a snapshot's rows are not in order")
					return
				}
				digest, seen := uint64(0), map[uint64]bool{}
				for _, k := range forward {
					digest += k.Hash
					if seen[k.Hash] {
						t.Error("an entry is there twice")
						return
					}
					seen[k.Hash] = true
				}
				if uint64(len(forward)) != run.Rows || digest != run.Digest {
					t.Errorf("%d rows, digest %x; the run says %d, %x", len(forward), digest, run.Rows, run.Digest)
					return
				}
			}
		})
	}
	tailed := map[uint64]int{}
	wg.Go(func() {
		for at := uint64(0); at < appends; {
			upto, err := h.Wait(context.Background(), at)
			if err != nil {
				t.Error(err)
				return
			}
			for _, a := range h.Since("t", at, upto, func(model.Labels) bool { return true }) {
				for i := a.From; i < a.To; i++ {
					tailed[a.Rows.Hashes[i]]++
				}
			}
			at = upto
		}
	})
	wg.Wait()
	for hash, n := range tailed {
		if n != 1 {
			t.Fatalf("row %x came %d times", hash, n)
		}
	}
	if len(tailed) != added {
		t.Errorf("%d rows were tailed, %d added", len(tailed), added)
	}
}

// Late rows with ever new names of metadata are read in reasonable time, and whole.
func TestLateRowsWithManyMetadataNames(t *testing.T) {
	h := New()
	ls := model.NewLabels([]model.Label{{Name: "a", Value: "b"}})
	const n = 500
	for i := range n {
		b := Block{Labels: ls, Text: ls.String()}
		b.Rows.Times, b.Rows.Positions = []int64{int64(n - i)}, []uint32{0}
		b.Rows.Lines.AppendString("x")
		for k := range 100 {
			c := model.Column{Name: fmt.Sprintf("n_%d_%03d", i, k)}
			c.Append(0, []byte("v"))
			b.Rows.Metadata = append(b.Rows.Metadata, c)
		}
		b.Rows.Hashes = []uint64{b.Rows.Hash(0)}
		h.Append("t", []Block{b}, 1, uint64(i+1))
	}
	sn, err := h.Store("t").Open(context.Background(), nil, 0, 1<<60)
	if err != nil {
		t.Fatal(err)
	}
	for _, backward := range []bool{false, true} {
		if keys := drain(t, sn, 0, backward); len(keys) != n {
			t.Errorf("%d rows, want %d", len(keys), n)
		}
	}
}
