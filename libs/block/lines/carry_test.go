package lines_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Rows of damaged blocks, with checksums that are right, are taken over or refused.
func TestChangedPayloadsAreCarried(t *testing.T) {
	section := smallSection(t)
	g, b := grams.NewBuilder(1), lines.NewBuilder(column.LevelFastest)
	b.SetGrams(g)
	refused, taken := 0, 0
	carry := func(section []byte) {
		s, err := lines.Open(section)
		if err != nil {
			return
		}
		for i := range s.Blocks {
			k := &s.Blocks[i]
			if k.Bytes > 1<<20 {
				continue // within the limits, but slow
			}
			b.Reset()
			g.Reset()
			err := func() error {
				body, err := s.Body(i, section[k.Offset:][:k.Size])
				if err != nil {
					return err
				}
				lengths, err := body.Lengths()
				if err != nil { // nobody need have asked for them
					lengths = slices.Repeat([]uint32{uint32(k.Bytes / k.Rows)}, k.Rows)
				}
				times, err := body.SharedTimes()
				if err != nil {
					return err
				}
				var parts []lines.Part
				var kept []int64
				size := 0
				for _, part := range [][2]int{{1, k.Rows / 3}, {k.Rows / 2, k.Rows}} {
					if part[0] >= part[1] {
						continue
					}
					parts, kept = append(parts, lines.Part{Body: body, From: part[0], To: part[1]}), append(kept, times[part[0]:part[1]]...)
					for _, n := range lengths[part[0]:part[1]] {
						size += int(n)
					}
				}
				if len(parts) == 0 {
					return nil
				}
				if _, err := b.AddParts(parts, &model.Strings{}, kept, nil, nil, size); err != nil {
					return err
				}
				r := b.RowSlots()
				for range kept {
					for k := range r.Next() {
						r.Holds(k, []byte("17"))
					}
				}
				slots := make([]uint32, len(k.Templates))
				for i := range slots {
					slots[i] = uint32(i % 3)
				}
				if _, _, err := body.SlotValues(slots); err != nil && !errors.Is(err, column.ErrCorrupt) {
					t.Fatal(err)
				}
				var before, after model.Rows
				whole := s.Decode(i, &before)
				taken, err := lines.Open(b.Finish())
				if err == nil {
					err = taken.Decode(0, &after)
				}
				if err != nil && (whole == nil || !errors.Is(err, column.ErrCorrupt)) {
					t.Fatal(err)
				}
				row := 0
				for _, p := range parts {
					for k := p.From; k < p.To && whole == nil; k++ {
						if string(after.Lines.At(row)) != string(before.Lines.At(k)) || after.Times[row] != before.Times[k] {
							t.Fatalf("row %d is %q, not %q", row, after.Lines.At(row), before.Lines.At(k))
						}
						row++
					}
				}
				return nil
			}()
			if err == nil {
				taken++
				continue
			}
			if refused++; !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("%v does not say that it is damage", err)
			}
		}
	}
	var sizes []int
	lines.Edit(section, func(n int, b []byte) []byte {
		sizes = append(sizes, len(b))
		return b
	})
	for frame := range sizes {
		for at := 0; at < sizes[frame]; at += stride() {
			for _, x := range []byte{1, 0x80, 0xff} {
				carry(lines.Edit(section, func(n int, b []byte) []byte {
					if n == frame {
						b[at] ^= x
					}
					return b
				}))
			}
		}
	}
	if taken == 0 || refused == 0 {
		t.Fatalf("%d taken over, %d refused", taken, refused)
	}
}

// Lines that are longer than the footer says, as much as values that recur can make them,
// are not taken over: what is made of them would take as much memory.
func TestLinesLongerThanTheirBlockAreNotCarried(t *testing.T) {
	var rows block
	for i := range 3000 {
		rows.lines.AppendString(fmt.Sprintf("%d is %s", i, strings.Repeat(string(rune('a'+i*i%23)), 100+i*i%23)))
		rows.times = append(rows.times, int64(i))
	}
	section := build(t, column.LevelFastest, []block{rows})
	for _, share := range []int{1, 2, 10} {
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		k := &s.Blocks[0]
		k.Bytes /= share
		body, err := s.Body(0, section[:k.Size])
		if err != nil {
			t.Fatal(err)
		}
		b := lines.NewBuilder(column.LevelFastest)
		b.SetGrams(grams.NewBuilder(1))
		_, err = b.AddParts([]lines.Part{{Body: body, To: k.Rows}}, &model.Strings{}, rows.times, nil, nil, k.Bytes)
		if (share > 1) != errors.Is(err, column.ErrCorrupt) {
			t.Errorf("of lines of %d bytes, %d as the footer says: %v", len(rows.lines.Slab), k.Bytes, err)
		}
	}
}

// A block that failed leaves nothing to those of a builder that begins anew.
func TestResetAfterFailedParts(t *testing.T) {
	var rows block
	for i := range 500 {
		rows.lines.AppendString(fmt.Sprintf("2026-01-02T03:04:%02d.000Z GET /%x took %d", i%60, i*i, i%7))
		rows.times = append(rows.times, time.Date(2026, 1, 2, 3, 4, i%60, 0, time.UTC).UnixNano())
	}
	good := build(t, column.LevelFastest, []block{rows})
	edited := false
	bad := lines.EditColumns(good, func(infos []column.Info) {
		for i := range infos {
			if c := &infos[i]; c.Kind == column.Signed {
				c.Min, c.Max, edited = 1<<62, 1<<62, true
			}
		}
	})
	var parts []lines.Part
	for _, section := range [][]byte{good, bad} {
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(0, section[:s.Blocks[0].Size])
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, lines.Part{Body: body, To: len(rows.times)})
	}
	b := lines.NewBuilder(column.LevelFastest)
	b.SetGrams(grams.NewBuilder(1))
	_, err := b.AddParts(parts, &model.Strings{}, append(slices.Clone(rows.times), rows.times...), nil, nil, 2*len(rows.lines.Slab))
	if !errors.Is(err, column.ErrCorrupt) || !edited {
		t.Fatalf("times long past are taken over: %v", err)
	}
	b.Reset()
	if _, err := b.AddParts(parts[:1], &model.Strings{}, rows.times, nil, nil, len(rows.lines.Slab)); err != nil {
		t.Fatal(err)
	}
	same(t, b.Finish(), []block{rows})
}
