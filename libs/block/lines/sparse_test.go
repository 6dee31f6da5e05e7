package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// wide makes lines of columns of text and of numbers, of which many fill frames of their own.
func wide(n int) (b block) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		var line strings.Builder
		for k := range 12 {
			if k%4 == 0 {
				fmt.Fprintf(&line, "key%d=%c%xz ", k, 'g'+rune(k), r.Uint64()>>(r.IntN(4)*8))
			} else {
				fmt.Fprintf(&line, "key%d=%d ", k, r.Uint64()>>(20+k))
			}
		}
		b.lines.AppendString(line.String())
		b.times = append(b.times, int64(i)*1e9)
	}
	b.runs = []uint32{uint32(n)}
	return b
}

// A body of which parts are read when they are needed says what one that was read whole
// says, whatever it is asked for first. It reads frames, no more than a few one by one,
// and each byte at most twice.
func TestSparseBodies(t *testing.T) {
	blocks := []block{wide(300), made(997), wide(2500)}
	blocks[1].runs = []uint32{100, 500, 997}
	data := build(t, column.LevelFastest, blocks)
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	few, all, draws := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
		b := data[s.Blocks[i].Offset:][:s.Blocks[i].Size]
		whole, err := s.Body(i, b)
		if err != nil {
			t.Fatal(err)
		}
		off, n := s.Directory(i)
		if off+n != len(b) {
			t.Fatalf("directory at %d, %d bytes, of %d", off, n, len(b))
		}
		failure := errors.New("the disk is away")
		var fail bool
		var reads [][2]int
		sparse, err := s.SparseBody(i, b[off:], func(from, n int) ([]byte, error) {
			if from < 0 || n < 0 || from+n > off {
				t.Fatalf("bytes [%d, +%d) of %d are asked for", from, n, off)
			}
			if fail {
				return b[from : from+n/2], failure
			}
			reads = append(reads, [2]int{from, n})
			return bytes.Clone(b[from : from+n]), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		rows := len(blocks[i].times)
		steps := rapid.IntRange(1, 20).Draw(t, "steps")
		for k := 1; k <= steps; k++ {
			fail = rapid.IntRange(0, 9).Draw(t, "fails") == 0
			c := rapid.IntRange(0, len(whole.Columns())-1).Draw(t, "column")
			from := rapid.IntRange(0, rows).Draw(t, "from")
			to := rapid.IntRange(from, min(rows, from+40)).Draw(t, "to")
			kind := rapid.IntRange(0, 5).Draw(t, "what")
			if steps%2 == 1 && k == steps { // what is still to be read, the last frame too
				fail, from, to, kind = false, 0, rows, 5
			}
			ask := func(b *lines.Body) (string, error) {
				switch kind {
				case 0:
					v, err := b.Values(c)
					if err != nil || b.Columns()[c].Kind == column.Signed {
						return "", err
					}
					out := []byte{}
					for r := range v.Len() {
						out = append(v.Append(out, r), '|')
					}
					return string(out), nil
				case 1:
					p, err := b.Frame(c)
					return string(p), err
				case 2:
					p, err := b.RowTemplates()
					return fmt.Sprint(p), err
				case 3:
					p, err := b.SharedTimes()
					return fmt.Sprint(p), err
				case 4:
					p, err := b.FrameMay(c, []byte("key7=gg"), new(uint64))
					return fmt.Sprint(p), err
				}
				var out model.Rows
				err := b.Rows(from, to, &out)
				return fmt.Sprint(out.Times, string(out.Lines.Slab)), err
			}
			want, err := ask(whole)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ask(sparse)
			switch {
			case fail && errors.Is(err, failure):
			case err != nil:
				t.Fatal(err)
			case got != want:
				t.Fatalf("step %d of block %d: %.300q, not %.300q", kind, i, got, want)
			}
		}
		switch n := len(reads); {
		case n <= lines.FewReads:
			few++
		case n == lines.FewReads+1 && reads[n-1] == [2]int{0, off}:
			all++
		default:
			t.Fatalf("reads %v of %d bytes", reads, off)
		}
		if sparse.MemorySize() > whole.MemorySize()+24*sparse.Frames() || sparse.MemorySize() < sparse.Held() {
			t.Fatalf("%d bytes of memory, whole it takes %d; %d are held", sparse.MemorySize(), whole.MemorySize(), sparse.Held())
		}
		if sparse.Twice() > 0 {
			t.Fatalf("%d bytes of frames are kept that were decompressed", sparse.Twice())
		}
	})
	if t.Failed() {
		return
	}
	if draws >= 100 && (few == 0 || all == 0) { // else it was run for less
		t.Errorf("%d bodies were read in parts, %d wholly in the end", few, all)
	}
	if _, err := s.SparseBody(0, nil, nil); err == nil {
		t.Error("a directory of no bytes is opened")
	}
	damaged := bytes.Clone(data[s.Blocks[0].Offset:][:s.Blocks[0].Size])
	off, _ := s.Directory(0)
	damaged[len(damaged)-3] ^= 1
	if _, err := s.SparseBody(0, damaged[off:], nil); err == nil {
		t.Error("a damaged directory is opened")
	}
}

// A damaged frame that is read alone is an error, and no wrong value.
func TestDamagedFrameOfSparseBody(t *testing.T) {
	data := build(t, column.LevelFastest, []block{wide(300)})
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	off, _ := s.Directory(0)
	b := data[:s.Blocks[0].Size]
	body, err := s.SparseBody(0, b[off:], func(from, n int) ([]byte, error) {
		p := bytes.Clone(b[from : from+n])
		for i := range p {
			p[i] ^= 4
		}
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range body.Columns() {
		if body.Columns()[i].Size == 0 {
			continue
		}
		if _, err := body.Values(i); !errors.Is(err, column.ErrCorrupt) {
			t.Errorf("column %d: %v", i, err)
		}
	}
}

// That a text is not in a frame is told to no search that asks as the first, however often
// it does, before another one asks.
func TestSketchesAreForTheNextSearch(t *testing.T) {
	data := build(t, column.LevelFastest, []block{wide(300)})
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Body(0, data[:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	c := slices.IndexFunc(body.Columns(), func(c column.Info) bool { return c.Kind == column.Bytes && c.Size > 1024 })
	if c < 0 {
		t.Fatal("no column is large enough")
	}
	first := new(uint64)
	for step, search := range []*uint64{first, first, new(uint64), first} {
		may, err := body.FrameMay(c, []byte("what is nowhere at all"), search)
		if err != nil {
			t.Fatal(err)
		}
		if want := step < 2; may != want {
			t.Errorf("step %d: %v", step, may)
		}
	}
}
