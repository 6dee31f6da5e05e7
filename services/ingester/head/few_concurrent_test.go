package head

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// requestsOfFew returns requests of a tenant with few rows each for some of many streams,
// which grow out of what lies among the rows of others.
func requestsOfFew(rnd *rand.Rand, tenant string, n int) (out [][]Block) {
	for i := range n {
		var blocks []Block
		for range 8 {
			ls := model.Labels{{Name: "s", Value: fmt.Sprint(rnd.IntN(40))}, {Name: "t", Value: tenant}}
			b := Block{Labels: ls, Text: ls.String()}
			for k := range 1 + rnd.IntN(3) {
				b.Rows.Times = append(b.Rows.Times, int64(1+i/8+rnd.IntN(6)))
				b.Rows.Lines.AppendString(fmt.Sprint(tenant, rnd.IntN(10)))
				b.Rows.Positions = append(b.Rows.Positions, uint32(k))
			}
			rows := b.Rows.Len()
			if rnd.IntN(3) == 0 {
				c := model.Column{Name: fmt.Sprint(tenant, rnd.IntN(6))}
				c.Append(rnd.IntN(rows), []byte(tenant))
				c.Finish(rows)
				b.Rows.Metadata = []model.Column{c}
			}
			for k := range rows {
				b.Rows.Hashes = append(b.Rows.Hashes, b.Rows.Hash(k))
			}
			blocks = append(blocks, b)
		}
		out = append(out, blocks)
	}
	return out
}

// While rows of many streams of two tenants are appended, snapshots stay what they were,
// whenever they are read, and tails see each row once.
func TestSnapshotsOfFewRowsWhileMoreAreAppended(t *testing.T) {
	h := New()
	const appends = 300
	tenants := []string{"a", "b"}
	rnd := rand.New(rand.NewPCG(3, 4))
	requests := map[string][][]Block{}
	for _, tenant := range tenants {
		requests[tenant] = requestsOfFew(rnd, tenant, appends)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	added := map[string]int{}
	wg.Go(func() {
		defer close(done)
		for i := range appends {
			for k, tenant := range tenants {
				added[tenant] += h.Append(tenant, requests[tenant][i], int64(1+rand.IntN(20)), uint64(2*i+k+1))
			}
		}
	})
	for _, tenant := range tenants {
		wg.Go(func() {
			var before engine.Snapshot // is read when there is more
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				sn, err := h.Store(tenant).Open(context.Background(), nil, 0, 1<<60)
				if err != nil {
					t.Error(err)
					return
				}
				if before != nil {
					checkSnapshot(t, before)
				}
				before = sn
			}
			checkSnapshot(t, before)
		})
		wg.Go(func() {
			seen := map[string]int{}
			for at := uint64(0); at < 2*appends; {
				upto, err := h.Wait(context.Background(), at)
				if err != nil {
					t.Error(err)
					return
				}
				for _, a := range h.Since(tenant, at, upto, func(model.Labels) bool { return true }) {
					for i := a.From; i < a.To; i++ {
						if a.Rows.Hash(i) != a.Rows.Hashes[i] {
							t.Error("a row is not the one that its hash says")
						}
						seen[fmt.Sprint(a.Labels, a.Rows.Hashes[i])]++
					}
				}
				at = upto
			}
			for row, n := range seen {
				if n != 1 {
					t.Errorf("row %s came %d times", row, n)
				}
			}
			<-done
			if len(seen) != added[tenant] {
				t.Errorf("%d rows were tailed, %d added", len(seen), added[tenant])
			}
		})
	}
	wg.Wait()
}

func checkSnapshot(t *testing.T, sn engine.Snapshot) {
	for i, s := range sn.Streams() {
		forward, backward := drain(t, sn, i, false), drain(t, sn, i, true)
		slices.Reverse(backward)
		if !slices.Equal(forward, backward) {
			t.Error("a snapshot is not the same however it is read")
		}
		if !slices.IsSortedFunc(forward, model.OrderKey.Compare) {
			t.Error("a snapshot's rows are not in order")
		}
		var rows, digest, sum uint64
		for _, r := range s.Runs {
			rows, digest = rows+r.Rows, digest+r.Digest
		}
		seen := map[uint64]bool{}
		for _, k := range forward {
			sum += k.Hash
			if seen[k.Hash] {
				t.Error("an entry is there twice")
			}
			seen[k.Hash] = true
		}
		if uint64(len(forward)) != rows || sum != digest {
			t.Errorf("%d rows, digest %x; the runs say %d, %x", len(forward), sum, rows, digest)
		}
	}
}
