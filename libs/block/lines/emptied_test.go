package lines_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// What Emptied returns reads what a body reads that was just opened, and says the same,
// while others use the one that it is of.
func TestEmptiedIsAsJustOpened(t *testing.T) { eachPaged(t, testEmptiedIsAsJustOpened) }

func testEmptiedIsAsJustOpened(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	blocks := []block{wide(600), made(997), pagedBlock()}
	data := build(t, column.LevelFastest, blocks)
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range blocks {
		b := data[s.Blocks[i].Offset:][:s.Blocks[i].Size]
		off, _ := s.Directory(i)
		var mu sync.Mutex
		open := func(reads *[][2]int) *lines.Body {
			body, err := s.SparseBody(i, b[off:], func(from, n int) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				*reads = append(*reads, [2]int{from, n})
				return b[from : from+n], nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
		var reads, ofRef [][2]int
		body, ref := open(&reads), open(&ofRef)
		if body.Emptied() != nil {
			t.Fatal("something stays of a body that was not searched")
		}
		for c := range body.Columns() {
			for range 2 {
				if _, err := body.FrameMay(c, []byte("rare"), new(uint64)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(seed, 46))
			old := body
			if body = old.Emptied(); body == nil || body.MemorySize() != body.EmptiedSize() || body.Held() > 0 {
				t.Fatalf("block %d: %v has something that was read", i, body)
			}
			from := r.IntN(len(blocks[i].times))
			to := from + r.IntN(min(20, len(blocks[i].times)-from)) + 1
			var got, want model.Rows
			var opened [][2]int
			reads = nil
			if err := body.Rows(from, to, &got); err != nil {
				t.Fatal(err)
			}
			if err := open(&opened).Rows(from, to, &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(reads, opened) {
				t.Fatalf("block %d, rows %d to %d: %v are read, not %v, or other rows", i, from, to, reads, opened)
			}
			var asking sync.WaitGroup
			for _, x := range []*lines.Body{old, body, old.Emptied()} {
				asking.Go(func() {
					for step := range uint64(6) {
						want, wantErr := ask(ref, ref, rand.New(rand.NewPCG(seed, step)))
						got, err := ask(x, ref, rand.New(rand.NewPCG(seed, step)))
						if (err == nil) != (wantErr == nil) || err == nil && got != want {
							t.Errorf("block %d, seed %d, step %d: %.300q, %v, not %.300q, %v", i, seed, step, got, err, want, wantErr)
						}
					}
				})
			}
			if asking.Wait(); body.MemorySize() < body.EmptiedSize()+body.Held() {
				t.Fatalf("%d bytes, of which %d stay and frames take %d", body.MemorySize(), body.EmptiedSize(), body.Held())
			}
		}
	}
}

// What searches find out about a row group counts as its memory, and as that of what stays when
// its lines go.
func TestMemoryOfWhatWasFoundOut(t *testing.T) {
	blocks := []block{made(997)}
	data := buildPaged(t, column.LevelFastest, blocks)
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	off, _ := s.Directory(0)
	body, err := s.SparseBody(0, data[off:s.Blocks[0].Size], func(from, n int) ([]byte, error) { return data[from : from+n], nil })
	if err != nil {
		t.Fatal(err)
	}
	grown := func(what string, least int, search func()) {
		before, stays := body.MemorySize()-body.Held(), body.EmptiedSize()
		search()
		if n, of := body.MemorySize()-body.Held()-before, body.EmptiedSize()-stays; n < least || of < least {
			t.Errorf("%s: %d bytes are counted, %d of them as what stays, not %d", what, n, of, least)
		}
	}
	large := column.NewWindows(1000, 8)
	grown("windows", large.MemorySize(), func() {
		body.Searched(0, 1, false, func() *column.Windows { return large })
	})
	at := slices.IndexFunc(body.Columns(), func(c column.Info) bool {
		return c.Size > 0 && frameSize(t, body, c) >= 1<<10
	})
	ask := func() {
		if _, err := body.FrameMay(at, []byte("rare"), new(uint64)); err != nil {
			t.Fatal(err)
		}
	}
	ask() // the second search makes it
	grown("sketch", frameSize(t, body, body.Columns()[at])/16, ask)
}

// frameSize returns how many bytes a column's frame has.
func frameSize(t *testing.T, body *lines.Body, c column.Info) int {
	n, err := body.FrameSize(body.Number(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
