package lines_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Who asks for rows that are here reads nothing, however often: that does not lead to all of
// the block being read for what is asked for next.
func TestWhatIsHereCountsForNoRead(t *testing.T) {
	eachPaged(t, func(t *testing.T, build func(fataler, column.Level, []block) []byte) {
		section := build(t, column.LevelFastest, []block{wide(1500)})
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		off, _ := s.Directory(0)
		body, err := s.SparseBody(0, section[off:s.Blocks[0].Size], func(from, n int) ([]byte, error) {
			if n == off {
				t.Error("all of the block is read")
			}
			return section[from : from+n], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 * lines.FewPages {
			if err := body.Rows(40, 50, &model.Rows{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := body.Values(1); err != nil {
			t.Fatal(err)
		}
	})
}

// A line that is too long costs no more memory than the lines of the block.
func TestLineThatIsTooLong(t *testing.T) {
	var b block
	for i := range 64 {
		b.lines.AppendString("took 7 of 7")
		b.times = append(b.times, int64(i))
	}
	builder := lines.NewBuilder(column.LevelFastest)
	builder.SetWhole(true)
	const long, slots = 1 << 20, 256
	section := lines.EditColumns(buildWith(t, builder, []block{b}), func(c []column.Info) {
		if len(c) != 1 || c[0].Kind != column.Const {
			t.Fatalf("columns %v", c)
		}
		c[0].N, c[0].MinLen, c[0].MaxLen, c[0].Prefix = 64*slots, long, long, make([]byte, long)
	})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	m := &s.Table.Templates[0]
	m.Text, m.Columns = slices.Repeat(m.Text, slots), slices.Repeat(m.Columns, slots)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.DecodeRange(0, 1, 3, &model.Rows{}); !errors.Is(err, column.ErrCorrupt) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > slots/4*long {
		t.Errorf("%d bytes of memory for lines of %d", n, s.Blocks[0].Bytes)
	}
}

// What was read of pages of rows goes once all of their columns are here.
func TestViewsOfHeadsGoWithThem(t *testing.T) {
	blocks := append(goldenBlocks(), made(997))
	section := buildRows(t, column.LevelFastest, blocks)
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	views := 0
	for i, k := range s.Blocks {
		body, err := s.Body(i, section[k.Offset:][:k.Size])
		if err != nil {
			t.Fatal(err)
		}
		rows := func() {
			var got model.Rows
			from := k.Rows / 3
			if err := body.Rows(from, from+k.Rows/8, &got); err != nil {
				t.Fatal(err)
			}
			for n := range got.Len() {
				if !bytes.Equal(got.Lines.At(n), blocks[i].lines.At(from+n)) {
					t.Fatalf("row %d is %q", from+n, got.Lines.At(n))
				}
			}
		}
		rows()
		views += body.RowViews()
		for c := range body.Columns() {
			if _, err := body.Frame(c); err != nil {
				t.Fatal(err)
			}
		}
		if n := body.RowViews(); n > 0 {
			t.Errorf("%d views of what was in no page are left", n)
		}
		rows()
	}
	if views == 0 {
		t.Error("no column is in no page")
	}
}

// A block says that it has many pages of rows of many columns: each that is opened would take
// memory for all of these.
func TestManyPagesOfManyColumns(t *testing.T) {
	var b block
	for i := range 1300 {
		var line strings.Builder
		for k := range 1 + i%90 {
			fmt.Fprintf(&line, "%c%c%c=%d ", 'g'+i%90/10, 'g'+i%10, 'g'+k%20, (i*7919+k*31)%1000)
		}
		b.lines.AppendString(line.String())
		b.times = append(b.times, int64(i))
	}
	for _, target := range []int{1 << 10, 1} {
		builder := lines.NewBuilder(column.LevelFastest)
		builder.SetRowPagesOf(target)
		section := buildWith(t, builder, []block{b})
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(0, section[:s.Blocks[0].Size])
		if (target == 1) != errors.Is(err, column.ErrCorrupt) {
			t.Errorf("pages of %d bytes: %v", target, err)
		}
		if err == nil {
			if n, _ := body.RowPages(); n < 100 {
				t.Errorf("%d pages of rows", n)
			}
			same(t, section, []block{b})
		}
	}
}

// A frame holds what columns are in, and no more: or a small block could be made of frames of
// which each decompresses to all that one may.
func TestFramesHoldWhatColumnsAreIn(t *testing.T) {
	for name, section := range map[string][]byte{"plain": build(t, column.LevelFastest, []block{wide(1500)}), "small": smallSection(t), "paged": pagedSection(t)} {
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(0, section[:s.Blocks[0].Size])
		if err != nil {
			t.Fatal(err)
		}
		for n := range body.Frames() {
			if body.Reach(n) == 0 {
				continue // of the times, with a limit of its own, or of nothing, and not read
			}
			grown := lines.Edit(section, func(i int, b []byte) []byte {
				if i == n {
					b = append(b, make([]byte, 1<<15)...)
				}
				return b
			})
			s, err := lines.Open(grown)
			if err == nil {
				err = s.Decode(0, &model.Rows{})
			}
			if !errors.Is(err, column.ErrCorrupt) {
				t.Errorf("%s: frame %d holds more than columns are in: %v", name, n, err)
			}
		}
	}
}

// What all frames hold together is bounded by what the footer says of the block's lines.
func TestFramesTogether(t *testing.T) {
	section := build(t, column.LevelFastest, []block{wide(1500)})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Body(0, section[:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	for _, far := range []uint32{0, 1 << 17, 1 << 20} { // of the limit of a frame, which is not reached
		if body.Frames() < 8 || 8*s.Blocks[0].Bytes+24*s.Blocks[0].Rows < 1<<20+1<<16 {
			t.Fatalf("%d frames, %d bytes", body.Frames(), s.Blocks[0].Bytes)
		}
		grown := lines.EditColumns(section, func(all []column.Info) {
			for i := range all {
				if c := &all[i]; c.Size > 0 && far > 0 {
					c.Frame, c.Offset = uint32(i%body.Frames()), far
				}
			}
		})
		s, err := lines.Open(grown)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Body(0, grown[:s.Blocks[0].Size]); far == 1<<20 != errors.Is(err, column.ErrCorrupt) || far < 1<<20 && err != nil {
			t.Errorf("columns at %d: %v", far, err)
		}
	}
}

// withColumns writes a section of one block anew with other columns in its directory.
func withColumns(t *testing.T, section []byte, edit func(columns []byte) []byte) []byte {
	payloads, err := lines.Payloads(section)
	if err != nil {
		t.Fatal(err)
	}
	directory := len(payloads) - 3 // behind the frames
	columns := payloads[directory+1]
	return lines.Edit(section, func(n int, b []byte) []byte {
		if n != directory {
			return b
		}
		return append(bytes.TrimSuffix(b, columns), edit(columns)...) // they come last
	})
}

// Columns of a directory ascend: steps beyond what a number holds do not lead back. None is
// left out that a template uses.
func TestColumnsOfDirectories(t *testing.T) {
	without := func(n int) func([]byte) []byte {
		return func(columns []byte) []byte {
			infos, _, err := column.ParseInfos(columns)
			if err != nil || len(infos) < 3 {
				t.Fatalf("%d columns, %v", len(infos), err)
			}
			n := (n + len(infos)) % len(infos)
			return column.AppendInfos(nil, slices.Delete(infos, n, n+1))
		}
	}
	for name, edit := range map[string]func([]byte) []byte{
		"none":               func([]byte) []byte { return column.AppendInfos(nil, nil) },
		"without the first":  without(0),
		"without the second": without(1),
		"without the last":   without(-1),
		"descending": func(columns []byte) []byte {
			out, at, step := []byte(nil), 0, []uint64{0, 0, 1000, math.MaxUint64 - 999} // the first number is how many there are
			for _, more := range step {
				d, k := binary.Uvarint(columns[at:])
				at += k
				out = binary.AppendUvarint(out, d+more)
			}
			return append(out, columns[at:]...)
		},
	} {
		s, err := lines.Open(withColumns(t, smallSection(t), edit))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Decode(0, &model.Rows{}); !errors.Is(err, column.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
