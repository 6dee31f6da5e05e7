package lines_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// A section is read by its footer and the bytes of single blocks.
func TestFooterAndBodies(t *testing.T) {
	blocks := goldenBlocks()
	builder := lines.NewBuilder(column.LevelFastest)
	for i := range blocks {
		if _, err := builder.Add(&blocks[i].lines, blocks[i].times, blocks[i].runs); err != nil {
			t.Fatal(err)
		}
	}
	section := builder.Finish()
	size := int64(len(section))
	n, err := lines.FooterSize(section[len(section)-lines.TailSize:])
	if err != nil {
		t.Fatal(err)
	}
	s, err := lines.OpenFooter(section[size-n:], size)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decode(0, &model.Rows{}); err == nil {
		t.Error("a footer alone was decoded")
	}
	for i, k := range s.Blocks {
		if b := builder.Blocks()[i]; b.Offset != k.Offset || b.Size != k.Size || !slices.Equal(b.Templates, k.Templates) {
			t.Errorf("the builder says %+v, the footer %+v", b, k)
		}
		b, err := s.Body(i, section[k.Offset:k.Offset+k.Size])
		if err != nil {
			t.Fatal(err)
		}
		want := &blocks[i]
		if times, err := b.SharedTimes(); err != nil || !slices.Equal(times, want.times) {
			t.Fatalf("times differ: %v", err)
		}
		var wait sync.WaitGroup
		for seed := range uint64(4) {
			wait.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				for range 20 {
					var rows []uint32
					for row := range k.Rows {
						if r.Uint64N(seed*40+2) == 0 {
							rows = append(rows, uint32(row))
						}
					}
					got := model.Rows{Times: []int64{7}}
					got.Lines.AppendString("before")
					if err := b.Select(rows, &got); err != nil {
						t.Error(err)
						return
					}
					for j, row := range rows {
						if got.Times[j+1] != want.times[row] || !bytes.Equal(got.Lines.At(j+1), want.lines.At(int(row))) {
							t.Errorf("row %d: %q, want %q", row, got.Lines.At(j+1), want.lines.At(int(row)))
							return
						}
					}
				}
			})
		}
		wait.Wait()
		if b.MemorySize() < int(k.Size) {
			t.Error("a body takes less memory than its bytes")
		}
		if err := b.Select([]uint32{3, 3}, &model.Rows{}); err == nil {
			t.Error("a row twice")
		}
		if err := b.Select([]uint32{uint32(k.Rows)}, &model.Rows{}); err == nil {
			t.Error("a row past the end")
		}
	}
	if _, err := s.Body(0, section[:s.Blocks[0].Size-1]); err == nil {
		t.Error("a block cut short was opened")
	}
	if _, err := lines.OpenFooter(section[size-n+1:], size); err == nil {
		t.Error("a footer cut short was opened")
	}
}

func TestPatterns(t *testing.T) {
	var b block
	for i := range 3 {
		b.lines.AppendString("user " + string(rune('1'+i)) + " from 10.0.0." + string(rune('1'+i)) + " said \xff")
		b.times = append(b.times, int64(i))
	}
	b.lines.AppendString("\x00")
	b.times = append(b.times, 4)
	s, err := lines.Open(build(t, column.LevelFastest, []block{b}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Patterns(), []string{"user <_> from <_> said \ufffd", "<_>"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
