package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// pagedSection has pages of times, of text, of numbers, and of indexes.
func pagedSection(t fataler) []byte { return buildPaged(t, column.LevelFastest, []block{pagedBlock()}) }

func pagedBlock() (b block) {
	for i := range 140 {
		x := uint64(i+1) * 0x9E3779B97F4A7C15
		b.lines.AppendString(fmt.Sprintf("job %d by %04x of %c%c%c in n%d", x>>52, uint16(x), 'g'+x>>62, 'g'+x>>60, 'g'+x>>57, x>>40&15*77))
		b.times = append(b.times, 1772368215e9+int64(i)*1e9+int64(x>>50))
	}
	return b
}

// Sections with pages of every kind hold what went into them.
func TestPagesOfEveryKind(t *testing.T) {
	blocks := append(goldenBlocks(), made(997), wide(300), pagedBlock())
	blocks[3].runs = []uint32{100, 101, 102, 500, 997}
	section := buildPaged(t, column.LevelDefault, blocks)
	same(t, section, blocks)
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for i := range s.Blocks {
		b, err := s.Body(i, section[s.Blocks[i].Offset:][:s.Blocks[i].Size])
		if err != nil {
			t.Fatal(err)
		}
		_, kinds := b.Pages()
		for k, n := range kinds {
			got[k] += n
		}
	}
	for _, kind := range []string{"times", "int", "pad", "hex", "uuid", "bytes", "dict", "signed"} {
		if got[kind] == 0 {
			t.Errorf("no pages of %s: %v", kind, got)
		}
	}
}

// Pages of rows hold columns of every kind, and what goes into them comes back.
func TestPagesOfRowsOfEveryKind(t *testing.T) {
	blocks := append(goldenBlocks(), made(997), wide(300), pagedBlock())
	blocks[3].runs = []uint32{100, 101, 102, 500, 997}
	section := buildRows(t, column.LevelDefault, blocks)
	same(t, section, blocks)
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	got, pages := map[string]int{}, 0
	for i := range s.Blocks {
		b, err := s.Body(i, section[s.Blocks[i].Offset:][:s.Blocks[i].Size])
		if err != nil {
			t.Fatal(err)
		}
		n, kinds := b.RowPages()
		pages += n
		for k, n := range kinds {
			got[k] += n
		}
	}
	for _, kind := range []string{"int", "pad", "hex", "uuid", "bytes", "dict", "signed", "delta*"} {
		if got[kind] == 0 {
			t.Errorf("no pages of rows of %s: %v", kind, got)
		}
	}
	if pages < 100 {
		t.Errorf("%d pages of rows", pages)
	}
}

// Rows with many short columns of text are in few pages, whichever columns these are.
func TestFewRowsReadFewPagesOfRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	words := make([]string, 300)
	for i := range words {
		words[i] = fmt.Sprintf("w%c%c%d", 'g'+r.IntN(20), 'g'+r.IntN(20), r.IntN(50))
	}
	var want block
	for i := range 60000 {
		part := 'a' + r.IntN(20)
		line := fmt.Sprintf("part%c says", part)
		for k := range 8 {
			line += fmt.Sprintf(" word%cof%c=%s", 'g'+k, part, words[r.IntN(3+k*30)])
		}
		want.lines.AppendString(line)
		want.times = append(want.times, 1772323200e9+int64(i)*1e6)
	}
	b := lines.NewBuilder(column.LevelBetter)
	b.SetPages(true)
	section := buildWith(t, b, []block{want})
	same(t, section, []block{want})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	data := section[s.Blocks[0].Offset:][:s.Blocks[0].Size]
	off, _ := s.Directory(0)
	read, reads := 0, 0
	body, err := s.SparseBody(0, data[off:], func(from, n int) ([]byte, error) {
		read, reads = read+n, reads+1
		return data[from : from+n], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{32345, 32400, 700, 59990} {
		to := min(from+100, 60000)
		var got model.Rows
		if err := body.Rows(from, to, &got); err != nil {
			t.Fatal(err)
		}
		for i := range to - from {
			if !bytes.Equal(got.Lines.At(i), want.lines.At(from+i)) {
				t.Fatalf("row %d is %q", from+i, got.Lines.At(i))
			}
		}
		if from == 32345 && (read > off/3 || reads > 12) {
			t.Errorf("%d bytes of %d are read for 100 of 60000 rows, in %d reads", read, off, reads)
		}
	}
	if n, _ := body.RowPages(); n < 4 {
		t.Errorf("%d pages of rows", n)
	}
}

// Every byte of a block with pages changed in turn: an error or the right rows.
func TestChangedBytesOfPages(t *testing.T) { eachPaged(t, testChangedBytesOfPages) }

func testChangedBytesOfPages(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	section, want := build(t, column.LevelFastest, []block{pagedBlock()}), pagedBlock()
	for at := range section {
		b := bytes.Clone(section)
		b[at] ^= 1 << (at & 7)
		s, err := lines.Open(b)
		if err != nil {
			continue
		}
		for from := 0; from < len(want.times); from += 69 {
			var got model.Rows
			n := min(4, len(want.times)-from)
			if err := s.DecodeRange(0, from, from+n, &got); err != nil {
				if !errors.Is(err, column.ErrCorrupt) {
					t.Fatal(err)
				}
				continue
			}
			for i := range n {
				if got.Times[i] != want.times[from+i] || !bytes.Equal(got.Lines.At(i), want.lines.At(from+i)) {
					t.Fatalf("byte %d changed: row %d is %q", at, from+i, got.Lines.At(i))
				}
			}
		}
		var got model.Rows
		if err := s.Decode(0, &got); err == nil && (!slices.Equal(got.Times, want.times) || !bytes.Equal(got.Lines.Slab, want.lines.Slab)) {
			t.Fatalf("byte %d changed: other rows", at)
		}
	}
}

// A body with pages of which parts are read when they are needed says what is true,
// whatever it is asked for first, and reads no more than it must.
func TestSparseBodiesWithPages(t *testing.T) { eachPaged(t, testSparseBodiesWithPages) }

func testSparseBodiesWithPages(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	blocks := []block{wide(300), made(997), wide(1500)}
	blocks[1].runs = []uint32{100, 500, 997}
	blocks[2].runs = nil
	data := build(t, column.LevelFastest, blocks)
	s, err := lines.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	parts, draws := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
		want := &blocks[i]
		b := data[s.Blocks[i].Offset:][:s.Blocks[i].Size]
		off, _ := s.Directory(i)
		failure := errors.New("the disk is away")
		fail, all, read := false, false, 0
		body, err := s.SparseBody(i, b[off:], func(from, n int) ([]byte, error) {
			if from < 0 || n < 0 || from+n > off {
				t.Fatalf("bytes [%d, +%d) of %d are asked for", from, n, off)
			}
			if fail {
				return nil, failure
			}
			if all {
				t.Fatal("bytes are read after all of them were")
			}
			all = from == 0 && n == off
			read += n
			return bytes.Clone(b[from : from+n]), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		rows := len(want.times)
		ends := want.runs
		if ends == nil {
			ends = []uint32{uint32(rows)}
		}
		steps := rapid.IntRange(1, 20).Draw(t, "steps")
		for range steps {
			fail = rapid.IntRange(0, 9).Draw(t, "fails") == 0
			from := rapid.IntRange(0, rows-1).Draw(t, "from")
			to := rapid.IntRange(from+1, min(rows, from+15)).Draw(t, "to")
			switch rapid.SampledFrom([]string{"rows", "rows", "rows", "select", "times", "within", "column", "all"}).Draw(t, "what") {
			case "rows":
				var got model.Rows
				if err = body.Rows(from, to, &got); err == nil {
					sameRows(t, want, span(from, to), &got)
				}
			case "select":
				var got model.Rows
				var list []uint32
				for r := from; r < rows; r += 1 + r%(1+rows/15) {
					list = append(list, uint32(r))
				}
				if err = body.Select(list, &got); err == nil {
					sameRows(t, want, list, &got)
				}
			case "times":
				x := body.Times()
				for r := from; r < to; r++ {
					if got := x.At(r); x.Err() == nil && got != want.times[r] {
						t.Fatalf("row %d has the time %d, not %d", r, got, want.times[r])
					}
				}
				err = x.Err()
			case "within":
				k := sort.Search(len(ends), func(i int) bool { return int(ends[i]) > from })
				to = rapid.IntRange(from, int(ends[k])).Draw(t, "to")
				start := want.times[from] + rapid.Int64Range(-2, 40e9).Draw(t, "start")
				end := start + rapid.Int64Range(0, 30e9).Draw(t, "for")
				if rapid.Bool().Draw(t, "exact") {
					start, end = want.times[rapid.IntRange(from, int(ends[k])-1).Draw(t, "first")], want.times[rapid.IntRange(from, int(ends[k])-1).Draw(t, "last")]
				}
				x := body.Times()
				gotFrom, gotTo := x.Within(from, to, start, end)
				if err = x.Err(); err == nil {
					p := want.times[from:to]
					a := sort.Search(len(p), func(i int) bool { return p[i] >= start })
					z := a + sort.Search(len(p)-a, func(i int) bool { return p[a+i] >= end })
					if gotFrom != from+a || gotTo != from+z {
						t.Fatalf("rows %d to %d, not %d to %d", gotFrom, gotTo, from+a, from+z)
					}
				}
			case "column":
				_, err = body.Values(rapid.IntRange(0, len(body.Columns())-1).Draw(t, "column"))
			case "all":
				var got model.Rows
				if err = body.Rows(0, rows, &got); err == nil {
					sameRows(t, want, span(0, rows), &got)
				}
			}
			if err != nil && (!fail || !errors.Is(err, failure)) {
				t.Fatal(err)
			}
		}
		if !all && read < off {
			parts++
		}
		if body.MemorySize() < 0 {
			t.Fatal("memory of less than nothing")
		}
	})
	if draws >= 100 && parts == 0 && !t.Failed() { // else it was run for less
		t.Error("all bodies were read wholly")
	}
}

func span(from, to int) (rows []uint32) {
	for r := from; r < to; r++ {
		rows = append(rows, uint32(r))
	}
	return rows
}

func sameRows(t *rapid.T, want *block, rows []uint32, got *model.Rows) {
	if got.Len() != len(rows) {
		t.Fatalf("%d rows of %d", got.Len(), len(rows))
	}
	for i, r := range rows {
		if got.Times[i] != want.times[r] || !bytes.Equal(got.Lines.At(i), want.lines.At(int(r))) {
			t.Fatalf("row %d: %d %q, not %d %q", r, got.Times[i], got.Lines.At(i), want.times[r], want.lines.At(int(r)))
		}
	}
}

// Few rows of a large block with pages cost a small part of it, and no more memory than
// that.
func TestFewRowsReadFewBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var want block
	for i := range 20000 {
		want.lines.AppendString(fmt.Sprintf("2026-03-01T00:00:%02d.%06dZ trace=%016x took=%dus user=%d", i/1000%60, r.IntN(1e6), r.Uint64(), r.IntN(1<<24), r.IntN(1<<30)))
		want.times = append(want.times, 1772323200e9+int64(i)*1e6+r.Int64N(1e6))
	}
	b := lines.NewBuilder(column.LevelBetter)
	b.SetPages(true)
	section := buildWith(t, b, []block{want})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	data := section[s.Blocks[0].Offset:][:s.Blocks[0].Size]
	off, _ := s.Directory(0)
	read, reads := 0, 0
	body, err := s.SparseBody(0, data[off:], func(from, n int) ([]byte, error) {
		read, reads = read+n, reads+1
		return data[from : from+n], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got model.Rows
	if err := body.Rows(12345, 12445, &got); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if !bytes.Equal(got.Lines.At(i), want.lines.At(12345+i)) {
			t.Fatalf("row %d is %q", i, got.Lines.At(i))
		}
	}
	if read > off/6 || reads > 12 {
		t.Errorf("%d bytes of %d are read for 100 of 20000 rows, in %d reads", read, off, reads)
	}
	if m := body.MemorySize(); m > off/2 {
		t.Errorf("they take %d bytes of memory, the block has %d", m, off)
	}
}

// What rows that follow each other need of several pages of a column is read together.
func TestFewRowsAreReadTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	var want block
	for i := range 20000 {
		want.lines.AppendString(fmt.Sprintf("trace=%016x took=%dus", r.Uint64(), r.IntN(1<<24)))
		want.times = append(want.times, 1772323200e9+int64(i)*1e6)
	}
	b := lines.NewBuilder(column.LevelBetter)
	b.SetPages(true)
	section := buildWith(t, b, []block{want})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	data := section[s.Blocks[0].Offset:][:s.Blocks[0].Size]
	off, _ := s.Directory(0)
	reads := 0
	body, err := s.SparseBody(0, data[off:], func(from, n int) ([]byte, error) {
		reads++
		return data[from : from+n], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got model.Rows
	if err := body.Rows(12345, 13245, &got); err != nil {
		t.Fatal(err)
	}
	for i := range 900 {
		if !bytes.Equal(got.Lines.At(i), want.lines.At(12345+i)) {
			t.Fatalf("row %d is %q", i, got.Lines.At(i))
		}
	}
	if _, kinds := body.Pages(); reads > 4 || kinds["hex"] == 0 {
		t.Errorf("%d reads for two columns and times, pages of %v", reads, kinds)
	}
}

// Every row is found by its time, also those before and behind the ends of pages.
func TestRowsOfPagesByTime(t *testing.T) { eachPaged(t, testRowsOfPagesByTime) }

func testRowsOfPagesByTime(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	want := made(997)
	want.runs = []uint32{100, 500, 997}
	slices.Sort(want.times)
	section := build(t, column.LevelFastest, []block{want})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Body(0, section[:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	times := body.Times()
	from := 0
	for _, end := range want.runs {
		for row := from; row < int(end); row++ {
			at := want.times[row]
			if a, z := times.Within(from, int(end), at, at+1); a != row || z != row+1 || times.Err() != nil {
				t.Fatalf("row %d of %d to %d: %d to %d, %v", row, from, end, a, z, times.Err())
			}
		}
		from = int(end)
	}
}

// What takes few bytes in a block but many once they are decompressed is cut as well: numbers
// that hardly change, and long text that comes again far away.
func TestPagesOfWhatCompressesWell(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 4))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('g' + r.IntN(20))
		}
		return string(b)
	}
	paths := make([]string, 550)
	for i := range paths {
		paths[i] = word(120)
	}
	var numbers, text block
	for i := range 20000 {
		at := 1772323200e9 + int64(i)*1e9
		delay := int64(3)
		if i%900 == 0 {
			delay = 9
		}
		numbers.lines.AppendString(time.Unix(0, at-delay*1e9).UTC().Format("2006-01-02T15:04:05Z") + " opened")
		numbers.times = append(numbers.times, at)
		text.lines.AppendString(paths[i/40+r.IntN(50)] + word(4))
		text.times = append(text.times, at)
	}
	for kind, want := range map[string]block{"signed": numbers, "bytes": text} {
		b := lines.NewBuilder(column.LevelBetter)
		b.SetPages(true)
		section := buildWith(t, b, []block{want})
		same(t, section, []block{want})
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(0, section[s.Blocks[0].Offset:][:s.Blocks[0].Size])
		if err != nil {
			t.Fatal(err)
		}
		if _, kinds := body.Pages(); kinds[kind] == 0 {
			t.Errorf("no pages of %s: %v", kind, kinds)
		}
	}
}

// Of new blocks the times are cut, and nothing else.
func TestPagesOfNewBlocks(t *testing.T) {
	want := made(9000)
	b := lines.NewBuilder(column.LevelDefault)
	b.SetPages(true)
	section := buildWith(t, b, []block{want})
	same(t, section, []block{want})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Body(0, section[s.Blocks[0].Offset:][:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	if n, kinds := body.Pages(); n != 1 || kinds["times"] != 1 {
		t.Errorf("pages of %v", kinds)
	}
	checkFewRows(t, []block{want}, section, false)
	whole := build(t, column.LevelDefault, []block{want})
	if len(section) > len(whole)+len(whole)/16 {
		t.Errorf("%d bytes with pages of times, %d without", len(section), len(whole))
	}
}
