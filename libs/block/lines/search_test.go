package lines_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/model"
)

// clocks are in-line times; f is a fraction of 3 to 9 digits.
var clocks = []string{
	"Mon Jan _2 15:04:05 2006", "02/Jan/2006:15:04:05", "2006-01-02T15:04:05", "Jan _2 15:04:05", "01.02 15:04:05", "060102 150405",
	"2006-01-02T15:04:05.f", "2006-01-02 15:04:05,f", "2006-01-02-15.04.05.f", "01-02 15:04:05.f", "0102 15:04:05.f",
}

// sortOfValues draws what draws values of one sort.
func sortOfValues(r *rand.Rand) func(now int64) string {
	before := []string{"", "a", "x1", "12345", "99x", "-", "\u212a", "\xff", "A0", "00"}[r.IntN(10)]
	switch r.IntN(11) {
	case 0:
		bits := r.IntN(64)
		return func(int64) string { return before + strconv.FormatUint(r.Uint64()>>bits, 10) }
	case 1:
		digits := 1 + r.IntN(19)
		return func(int64) string { return before + fmt.Sprintf("%019d", r.Uint64N(1e19))[19-digits:] }
	case 2:
		digits, format := 1+r.IntN(32), []string{"%016x%016x", "%016X%016X"}[r.IntN(2)]
		return func(int64) string { return fmt.Sprintf(format, r.Uint64(), r.Uint64())[32-digits:] }
	case 3:
		return func(int64) string {
			s := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
			return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
		}
	case 4:
		return func(int64) string {
			return fmt.Sprintf("%d.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256))
		}
	case 5, 6, 7:
		layout := strings.Replace(clocks[r.IntN(len(clocks))], "f", "000000000"[:3+r.IntN(7)], 1)
		return func(now int64) string { return time.Unix(0, now-r.Int64N(2e9)).UTC().Format(layout) }
	case 8:
		unit := []int64{1e9, 1e6}[r.IntN(2)]
		return func(now int64) string { return strconv.FormatInt(now/unit, 10) }
	case 9:
		words := []string{"", "kelvin", "\u212aelvin", "\u017fet", "SET", "\xff\xfe", "\u00e9", "0", "error7"}
		return func(int64) string { return words[r.IntN(len(words))] }
	}
	few, value := make([]string, 1+r.IntN(90)), sortOfValues(r)
	for i := range few {
		few[i] = value(1772368215123456789)
	}
	return func(int64) string { return few[r.IntN(len(few))] }
}

// shapeOfLines draws what draws lines of one shape, which ends in some words.
func shapeOfLines(r *rand.Rand, words int) func(now int64) string {
	between := []string{" ", " took ", "=", ":", " [", " 12", "3 ", " K", "\u212a ", " user=", "\" ", " 0x", ".", "\u00e9", "\xc3 "}
	text := func() string { return between[r.IntN(len(between))] }
	var texts []string
	var values []func(int64) string
	for range r.IntN(5) {
		texts, values = append(texts, text()), append(values, sortOfValues(r))
	}
	end := text()
	for range words {
		end += text() + string(rune('a'+r.IntN(26))) + "Word"
	}
	return func(now int64) string {
		var b strings.Builder
		for i, value := range values {
			b.WriteString(texts[i])
			b.WriteString(value(now))
		}
		return b.String() + end
	}
}

// cutFrom cuts a needle from a line, and mostly changes it.
func cutFrom(r *rand.Rand, line []byte) string {
	if len(line) == 0 {
		return "1"
	}
	from := r.IntN(len(line))
	text := bytes.Clone(line[from : from+min(len(line)-from, 1+r.IntN(20))])
	switch r.IntN(5) {
	case 0:
		text[r.IntN(len(text))] = "0123456789abcdefABCDEF .-:kKsS"[r.IntN(30)]
	case 1:
		text = bytes.ToUpper(text)
	case 2:
		text = append(text, "0123456789"[r.IntN(10)])
	}
	return string(text)
}

// opened opens a section of one block, which counts how often it is read.
func opened(t fataler, b []byte, reads *int) (*lines.Section, *lines.Body) {
	s, err := lines.Open(b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	all := b[s.Blocks[0].Offset:][:s.Blocks[0].Size]
	off, n := s.Directory(0)
	body, err := s.SparseBody(0, all[off:off+n], func(off, n int) ([]byte, error) {
		*reads++
		return all[off : off+n], nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s, body
}

// What lines hold is found however blocks are stored, and however often they were searched,
// whatever was made of their columns for it, and whatever of them was read again.
func TestSearched(t *testing.T) {
	searches := 120
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		searches = 60
	}
	hits, windows, emptied, unread := 0, 0, 0, 0
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 78))
		shapes := make([]func(int64) string, []int{1, 5, 120}[seed%3])
		for i := range shapes {
			shapes[i] = shapeOfLines(r, len(shapes)/10)
		}
		var all block
		now := int64(1772368215123456789)
		for step := []int64{1, 1e6, 2e8, 1e10}[r.IntN(4)]; len(all.times) < 300; now += r.Int64N(step) {
			all.lines.AppendString(shapes[r.IntN(len(shapes))](now))
			all.times = append(all.times, now)
		}
		b := lines.NewBuilder(column.LevelFastest)
		b.SetWhole(seed%8 == 7)
		reads := 0
		in, body := opened(t, buildWith(t, b, []block{all}), &reads)
		switch seed % 4 {
		case 1, 2: // merged, with pages
			b := lines.NewBuilder(column.LevelFastest)
			if b.SetSmallPages(); seed%4 == 2 {
				b.SetSmallRowPages()
			}
			if _, err := b.AddParts([]lines.Part{{Body: body, To: len(all.times)}}, &model.Strings{}, all.times, nil, nil, len(all.lines.Slab)); err != nil {
				t.Fatal(err)
			}
			in, body = opened(t, b.Finish(), &reads)
		}
		for range searches {
			text := cutFrom(r, all.lines.At(r.IntN(len(all.times))))
			term := match.Term{Literal: text, Fold: r.IntN(3) == 0}
			p, err := match.Compile([]match.Filter{{Any: []match.Term{term}}})
			if err != nil {
				continue // what is no text has no case
			}
			want := func(line []byte) bool { return bytes.Contains(line, []byte(text)) }
			if term.Fold {
				want = regexp.MustCompile("(?i)" + regexp.QuoteMeta(text)).Match
			}
			empty := false
			if r.IntN(3) == 0 {
				if e := body.Emptied(); e != nil {
					if body, empty, reads = e, true, 0; e.MemorySize() != e.EmptiedSize() {
						t.Fatalf("%d bytes, of which %d stay", e.MemorySize(), e.EmptiedSize())
					}
					emptied++
				}
			}
			var got match.Bitmap
			if err := p.Section(in, nil).Rows(0, body, 0, len(all.times), &got); err != nil {
				t.Fatal(err)
			}
			if read := body.MemorySize() > body.EmptiedSize(); empty && read != (reads > 0) {
				t.Fatalf("%d reads, %d bytes of which %d stay", reads, body.MemorySize(), body.EmptiedSize())
			} else if empty && !read {
				unread++
			}
			for row := range all.times {
				if w := want(all.lines.At(row)); got.Has(row) != w {
					t.Fatalf("seed %d: %v: row %d: got %v, want %v: %q", seed, p, row, got.Has(row), w, all.lines.At(row))
				} else if w {
					hits++
				}
			}
		}
		for i := range body.Columns() {
			if body.Windows(i) != nil {
				windows++
			}
		}
	}
	if hits == 0 || windows == 0 || emptied < 50 || unread < 10 {
		t.Errorf("%d hits, windows of %d columns, %d searches of bodies of which nothing was there, %d that read nothing", hits, windows, emptied, unread)
	}
}
