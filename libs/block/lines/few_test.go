package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Few rows of a body are those that all are, whatever of it was unpacked before, and
// take little memory.
func TestFewRows(t *testing.T) {
	blocks := append(goldenBlocks(), made(997), manyTemplates(3000))
	checkFewRows(t, blocks, build(t, column.LevelFastest, blocks), true)
	checkFewRows(t, blocks, buildPaged(t, column.LevelFastest, blocks), false)
	checkFewRows(t, blocks, buildRows(t, column.LevelFastest, blocks), false)
}

// manyTemplates returns rows of many templates that have values in the same columns.
func manyTemplates(rows int) (b block) {
	words := [...]string{"opened", "closed", "moved", "renamed", "locked", "freed", "merged", "cut"}
	for i := range rows {
		x := uint64(i) * 0x9E3779B97F4A7C15
		at := time.Unix(0, 1772323199e9+int64(i)*10e6).UTC()
		what := words[x>>61] + " " + words[x>>58&7] + " " + words[x>>55&7]
		b.lines.AppendString(fmt.Sprintf("%s file %s: user=%d size=%d", at.Format("2006-01-02T15:04:05.000Z"), what, x>>20&0xfff, x>>40&0xff))
		b.times = append(b.times, at.UnixNano())
	}
	return b
}

func checkFewRows(t *testing.T, blocks []block, section []byte, memory bool) {
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for i, k := range s.Blocks {
		want := &blocks[i]
		check := func(got *model.Rows, n, row int) {
			if got.Times[n] != want.times[row] || !bytes.Equal(got.Lines.At(n), want.lines.At(row)) {
				t.Fatalf("seed %d, block %d, row %d: %q, want %q", seed, i, row, got.Lines.At(n), want.lines.At(row))
			}
		}
		for trial := range 30 {
			b, err := s.Body(i, section[k.Offset:k.Offset+k.Size])
			if err != nil {
				t.Fatal(err)
			}
			if trial%3 == 1 {
				for c := range b.Columns() {
					if r.IntN(3) == 0 {
						if _, err := b.Values(c); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			for range 6 {
				var got model.Rows
				if r.IntN(2) == 0 {
					n := r.IntN(min(k.Rows, max(1, k.Rows/16)) + 1)
					from := r.IntN(k.Rows - n + 1)
					if err := b.Rows(from, from+n, &got); err != nil {
						t.Fatal(err)
					}
					for j := range n {
						check(&got, j, from+j)
					}
					continue
				}
				var rows []uint32
				for row := range k.Rows {
					if r.IntN(40) == 0 {
						rows = append(rows, uint32(row))
					}
				}
				if err := b.Select(rows, &got); err != nil {
					t.Fatal(err)
				}
				for j, row := range rows {
					check(&got, j, int(row))
				}
			}
			if memory && trial%3 == 0 && k.Rows > 500 {
				few, after := b.MemorySize(), 0
				for c := range b.Columns() {
					if _, err := b.Values(c); err != nil {
						t.Fatal(err)
					}
				}
				if after = b.MemorySize(); after-few < 2*k.Rows {
					t.Errorf("block %d takes %d bytes with few rows read, %d unpacked", i, few, after)
				}
			}
		}
	}
}

// What prints few rows is used again by other blocks: one that failed leaves nothing behind.
func TestFewRowsAfterDamage(t *testing.T) {
	blocks := append(goldenBlocks(), made(997), manyTemplates(1000))
	sections := [][]byte{build(t, column.LevelFastest, blocks), buildPaged(t, column.LevelFastest, blocks), buildRows(t, column.LevelFastest, blocks)}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	failed := 0
	for range 300 {
		section := sections[r.IntN(len(sections))]
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		i := r.IntN(len(s.Blocks))
		k := &s.Blocks[i]
		data := bytes.Clone(section[k.Offset : k.Offset+k.Size])
		_, directory := s.Directory(i)
		damaged := r.IntN(3) == 0 && len(data) > directory
		if damaged {
			data[r.IntN(len(data)-directory)] ^= 1 << r.IntN(8)
		}
		b, err := s.Body(i, data)
		if err != nil {
			t.Fatal(err)
		}
		var rows []uint32
		for row, step := r.IntN(k.Rows), 1+r.IntN(20); row < k.Rows && len(rows) < max(1, k.Rows/16); row += 1 + r.IntN(step) {
			rows = append(rows, uint32(row))
		}
		for range 3 { // the second time it is known which templates use a column
			var got model.Rows
			if err := b.Select(rows, &got); err != nil {
				if failed++; !damaged {
					t.Fatal(err)
				}
				break
			}
			for j, row := range rows {
				if got.Times[j] != blocks[i].times[row] || !bytes.Equal(got.Lines.At(j), blocks[i].lines.At(int(row))) {
					t.Fatalf("seed %d, block %d, row %d: %q, want %q", seed, i, row, got.Lines.At(j), blocks[i].lines.At(int(row)))
				}
			}
		}
	}
	if failed == 0 {
		t.Error("no damage was met")
	}
}

// Values that are the same in all rows of a block are printed wherever in a line they are:
// alone, next to others, at its beginning and at its end.
func TestFewRowsOfTheSameValues(t *testing.T) {
	var blocks []block
	for _, same := range []bool{false, true} {
		var b block
		for i := range 800 {
			k := i % 7
			if same {
				k = 5
			}
			x := uint64(i+1) * 0x9E3779B97F4A7C15
			switch i % 3 {
			case 0:
				b.lines.AppendString(fmt.Sprintf("%d10 %d20 opened %d30 by %016x for %d40", k, k, k, x, k))
			case 1:
				b.lines.AppendString(fmt.Sprintf("n%d1 closed n%d2/n%d3", k, k, k))
			default:
				b.lines.AppendString(fmt.Sprintf("moved %x to %d50", x>>40, k))
			}
			b.times = append(b.times, int64(i))
		}
		blocks = append(blocks, b)
	}
	for _, section := range [][]byte{build(t, column.LevelFastest, blocks), buildPaged(t, column.LevelFastest, blocks), buildRows(t, column.LevelFastest, blocks)} {
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(1, section[s.Blocks[1].Offset:][:s.Blocks[1].Size])
		if err != nil {
			t.Fatal(err)
		}
		constant := 0
		for i := range body.Columns() {
			if body.Columns()[i].SameText() {
				constant++
			}
		}
		if constant < 5 {
			t.Fatalf("%d columns of one value", constant)
		}
		checkFewRows(t, blocks, section, false)
	}
}

// A column of one value whose text is not as long as it says is refused by who prints few rows,
// too.
func TestFewRowsOfAValueOfAnotherLength(t *testing.T) {
	var b block
	for i := range 800 {
		b.lines.AppendString(fmt.Sprintf("n5 closed %d", i))
		b.times = append(b.times, int64(i))
	}
	for k, edit := range []func(c *column.Info){
		func(c *column.Info) { c.MinLen++; c.MaxLen++ },
		func(c *column.Info) { c.Prefix = append(c.Prefix, c.Prefix...) },
	} {
		edited := false
		section := lines.EditColumns(build(t, column.LevelFastest, []block{b}), func(infos []column.Info) {
			for i := range infos {
				if c := &infos[i]; c.SameText() {
					edit(c)
					edited = true
				}
			}
		})
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DecodeRange(0, 5, 7, &model.Rows{}); !errors.Is(err, column.ErrCorrupt) || !edited {
			t.Errorf("%d: %v", k, err)
		}
	}
}

// Rows are counted by their templates, however many there are of either.
func TestTally(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	for _, templates := range []int{1, 2, 255, 256, 257, 3000} {
		for _, n := range []int{0, 1, 3, 255, 256, 257, 258, 259, 5000} {
			tids, got, want := make([]uint16, n), make([]uint32, templates), make([]uint32, templates)
			for i := range want {
				got[i] = uint32(i)
				want[i] = uint32(i)
			}
			for i := range tids {
				tids[i] = uint16(r.IntN(1 + r.IntN(templates)))
				want[tids[i]]++
			}
			for kind, got := range lines.Tally(got, tids) {
				if !slices.Equal(got, want) {
					t.Errorf("%d rows of %d templates, %s: %d, not %d", n, templates, kind, got, want)
				}
			}
		}
	}
}

// Rows' templates are read whatever form they have, as far as they are templates.
func TestTemplatesOfOtherForms(t *testing.T) {
	b := made(900)
	section := build(t, column.LevelFastest, []block{b})
	zeros := make([]byte, len(b.times))
	for _, c := range []struct {
		form string
		edit func(c *column.Info, payload []byte) []byte
		bad  bool
	}{
		{"as they are", func(_ *column.Info, p []byte) []byte { return p }, false},
		{"from -1 on", func(c *column.Info, p []byte) []byte {
			for i := range p {
				p[i]++
			}
			c.Min--
			return p
		}, false},
		{"of two bytes", func(c *column.Info, p []byte) []byte {
			c.Width = 2
			return append(p, zeros...)
		}, false},
		{"of three bytes", func(c *column.Info, p []byte) []byte {
			c.Width = 3
			return slices.Concat(p, zeros, zeros)
		}, false},
		{"of which one is beyond all", func(c *column.Info, p []byte) []byte {
			c.Width, c.Max = 3, 1<<16
			p = slices.Concat(p, zeros, zeros)
			p[len(p)-7] = 1
			return p
		}, true},
		{"of which one is not there", func(c *column.Info, p []byte) []byte { return p[1:] }, true},
		{"of which one is there twice", func(c *column.Info, p []byte) []byte { return append(p, 0) }, true},
		{"of two bytes, of which some are not there", func(c *column.Info, p []byte) []byte {
			c.Width = 2
			return append(p, zeros[1:]...)
		}, true},
		{"of no bytes", func(c *column.Info, p []byte) []byte {
			c.Width = 0
			return nil
		}, true},
	} {
		edited := lines.EditTemplates(section, func(k *column.Info, p []byte) []byte {
			if k.Width != 1 || len(p) != len(b.times) {
				t.Fatalf("templates of %d bytes each, %d of %d rows", k.Width, len(p), len(b.times))
			}
			p = c.edit(k, p)
			k.Size = uint32(len(p))
			return p
		})
		for _, n := range []int{1, 20, 900} {
			for _, first := range []bool{false, true} { // another one was asked for all before
				s, err := lines.Open(edited)
				if err != nil {
					t.Fatal(err)
				}
				body, err := s.Body(0, edited[:s.Blocks[0].Size])
				if err != nil {
					t.Fatal(err)
				}
				if first {
					if _, err := body.RowTemplates(); errors.Is(err, column.ErrCorrupt) != c.bad {
						t.Errorf("%s: %v", c.form, err)
					}
				}
				if !first && !c.bad {
					if said, held, err := body.FewTemplates(900 - n); err != nil || said != held || held == 0 {
						t.Errorf("%s: they are said to take %d bytes, and take %d, %v", c.form, said, held, err)
					}
				}
				var got model.Rows
				err = body.Rows(900-n, 900, &got)
				if c.bad {
					if !errors.Is(err, column.ErrCorrupt) {
						t.Errorf("%s, %d rows: %v", c.form, n, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s, %d rows: %v", c.form, n, err)
				}
				for i := range n {
					if row := 900 - n + i; got.Times[i] != b.times[row] || !bytes.Equal(got.Lines.At(i), b.lines.At(row)) {
						t.Fatalf("%s, row %d: %q", c.form, row, got.Lines.At(i))
					}
				}
			}
		}
	}
}
