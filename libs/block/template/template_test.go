package template

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func input(start int64, texts ...string) (*model.Strings, []int64) {
	var s model.Strings
	var times []int64
	for i, x := range texts {
		s.AppendString(x)
		times = append(times, start+int64(i)*1e6)
	}
	return &s, times
}

// rebuild puts the lines of a block together again, from a table and the values.
func rebuild(t fataler, tab *Table, number func(uint32) uint32, b *Block, lines *model.Strings, times []int64) {
	t.Helper()
	cur := map[uint32]int{}
	values := map[uint32]Values{}
	for _, v := range b.Columns {
		values[v.Column] = v
	}
	var line []byte
	for r, n := range b.Rows {
		line = line[:0]
		for _, p := range tab.Templates[number(n)].Pieces() {
			line = append(line, p.Literal...)
			if !p.Slot {
				break
			}
			k := cur[p.Column]
			cur[p.Column]++
			if tab.Columns[p.Column] != (Column{p.IsTime, p.Layout}) {
				t.Fatalf("piece and column differ in kind")
			}
			if p.IsTime {
				line = p.Layout.Append(line, p.Layout.Floor(times[r])-values[p.Column].Deltas[k])
			} else {
				line = append(line, values[p.Column].Refs[k].Of(lines.Slab)...)
			}
		}
		if !bytes.Equal(line, lines.At(r)) {
			t.Fatalf("row %d: %q, want %q", r, line, lines.At(r))
		}
	}
	for c, v := range values {
		if n := len(v.Refs) + len(v.Deltas); cur[c] != n {
			t.Fatalf("column %d: %d of %d values used", c, cur[c], n)
		}
	}
	rows := 0
	for _, c := range b.Templates {
		rows += int(c.Rows)
	}
	if rows != len(times) {
		t.Fatalf("templates of %d rows of %d", rows, len(times))
	}
}

func all(a *Analyzer) (*Table, func(uint32) uint32) {
	numbers := make([]uint32, len(a.merger.out))
	for i := range numbers {
		numbers[i] = uint32(i)
		if a.merger.out[i].cols == nil { // not in use: has no columns yet
			a.merger.out[i].rows = 1
		}
	}
	a.assign()
	return a.Table(numbers), func(n uint32) uint32 { return n }
}

var day = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC)

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"plain words", "plain words"},
		{"", ""},
		{"took 12 ms", "took \x00 ms"},
		{"job-a12f: x", "job-\x00: x"},
		{"0x1f 0xg 0x", "0x\x00 0x\x00 \x00"},
		{"from 10.0.0.1:80", "from \x00:\x00"},
		{"v 1.2.3.400", "v \x00.\x00.\x00.\x00"},
		{"id 123e4567-e89b-12d3-a456-426614174000.", "id \x00."},
		{"2026-03-01T12:30:15.123Z up", "\x01\x89Z up"},
		{"Mar  1 12:30:15 host", "\x01\xa3 host"},
		{"I0301 12:30:15.123456 7", "I\x01\xae \x00"},
		{"at 1772368215 or 1772368215123", "at \x01\xb6 or \x01\xb5"},
		{"2026-03-01T12:30:61.123Z", "\x00-\x00-\x00:\x00:\x00.\x00"},
		{"2029-03-01T12:30:15.123Z", "\x00-\x00-\x00:\x00:\x00.\x00"},
		{"a\x00b 1", "\x02"},
	} {
		t.Run(c.line, func(t *testing.T) {
			lines, times := input(day.UnixNano(), c.line)
			a := NewAnalyzer()
			b, err := a.Analyze(lines, times, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			tab, number := all(a)
			if got := tab.Templates[b.Rows[0]].Text; string(got) != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			rebuild(t, tab, number, b, lines, times)
		})
	}
}

func TestLimitsOfALine(t *testing.T) {
	for line, raw := range map[string]bool{
		strings.Repeat("x", MaxTokenized):   false,
		strings.Repeat("x", MaxTokenized+1): true,
		strings.Repeat("1 ", MaxSlots):      false,
		strings.Repeat("1 ", MaxSlots+1):    true,
		"a\x02":                             true,
		"a\x03":                             false,
	} {
		lines, times := input(0, line)
		a := NewAnalyzer()
		b, err := a.Analyze(lines, times, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (b.RawRows == 1) != raw {
			t.Errorf("%.10q of %d bytes: raw %t", line, len(line), !raw)
		}
	}
}

func TestVariableWordsBecomeValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return string(b)
	}
	var texts []string
	for i := range 2000 {
		texts = append(texts, fmt.Sprintf(`user %s opened "%s %s %d" at door %d`, word(), word(), word(), i, i%7))
	}
	lines, times := input(0, texts...)
	a := NewAnalyzer()
	for range 3 { // what was learnt holds for later blocks
		b, err := a.Analyze(lines, times, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		tab, number := all(a)
		rebuild(t, tab, number, b, lines, times)
		if len(b.Templates) > 4 {
			t.Errorf("%d templates", len(b.Templates))
		}
	}
}

// Quoted strings of many shapes become values, but never with a time in them.
func TestQuotesBecomeValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, quoted := range []string{"%s", "2026-03-01T12:30:15.123Z%s"} {
		var texts []string
		for i := range 4000 {
			var q strings.Builder
			for range 2 + rng.IntN(6) {
				q.WriteString([]string{" ", "; ", ", ", " (", ") ", " [", "] "}[rng.IntN(7)])
				q.WriteString([]string{"x", "y", "z", "7"}[rng.IntN(4)])
			}
			texts = append(texts, fmt.Sprintf(`2026-03-01T12:30:15.123Z agent "`+quoted+`" took %d`, q.String(), i))
		}
		lines, times := input(day.UnixNano(), texts...)
		a := NewAnalyzer()
		for range 2 {
			b, err := a.Analyze(lines, times, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			tab, number := all(a)
			rebuild(t, tab, number, b, lines, times)
			if n := len(b.Templates); quoted == "%s" && n > 4 {
				t.Errorf("%d templates", n)
			}
		}
	}
}

func TestColumnsByContext(t *testing.T) {
	tab, b, _, _ := analyzed(t, 0, "listens on port 1", "stopped on port 2 now", "port 1, port 2, port 3")
	cols := func(row int) []uint32 { return tab.Templates[b.Rows[row]].Columns }
	if cols(0)[0] != cols(1)[0] {
		t.Error("like contexts have different columns")
	}
	if c := cols(2); c[1] == c[2] {
		t.Error("slots of one template share a column")
	}
}

func TestExplosionsEndUpRaw(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var texts []string
	for range 20000 {
		b := make([]byte, 60)
		for i := range b {
			b[i] = byte(rng.IntN(253) + 3)
		}
		texts = append(texts, string(b))
	}
	lines, times := input(0, texts...)
	a := NewAnalyzer()
	b, err := a.Analyze(lines, times, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.tok.raws) > 10000 || b.RawRows < 10000 {
		t.Errorf("%d raw templates, %d raw rows of %d", len(a.tok.raws), b.RawRows, len(times))
	}
	tab, number := all(a)
	rebuild(t, tab, number, b, lines, times)

	// Long templates are bounded by their bytes.
	a = NewAnalyzer()
	texts = texts[:0]
	for range 200 {
		texts = append(texts, strings.Repeat(string('a'+rune(rng.IntN(26)))+string('a'+rune(rng.IntN(26))), MaxTokenized/2-20)+fmt.Sprint(" ", rng.Int()))
	}
	lines, times = input(0, texts...)
	if b, err = a.Analyze(lines, times, nil, nil); err != nil {
		t.Fatal(err)
	}
	if a.tok.text > maxText || a.tok.text < maxText/2 {
		t.Errorf("%d bytes of templates", a.tok.text)
	}
	tab, number = all(a)
	rebuild(t, tab, number, b, lines, times)
}

// Whatever is parsed prints as the same bytes, whatever layouts claim it.
func TestLayoutsPrintWhatTheyParse(t *testing.T) {
	goLayouts := []string{"Mon Jan 02 15:04:05 2006", time.ANSIC, "02/Jan/2006:15:04:05", "2006-01-02T15:04:05.000000000", "2006-01-02T15:04:05", "2006-01-02 15:04:05.000", "2006-01-02 15:04:05,000000",
		"2006/01/02 15:04:05", "2006-01-02-15.04.05.000000", "Jan 02 15:04:05", time.Stamp, "01-02 15:04:05.000", "0102 15:04:05.000000", "01.02 15:04:05", "06/01/02 15:04:05", "060102 150405"}
	hits := map[Layout]int{}
	check := func(t interface{ Fatalf(string, ...any) }, text []byte, entry int64) {
		for k, l := range layouts {
			v, ok := l.parse(text, entry)
			if !ok {
				continue
			}
			hits[Layout(k)]++
			if !Layout(k).InRange(v) {
				t.Fatalf("layout %q: %q is out of range", l.pattern, text)
			}
			if got := l.append(nil, v); !bytes.Equal(got, text[:l.n]) {
				t.Fatalf("layout %q: %q prints as %q", l.pattern, text, got)
			}
		}
	}
	for _, l := range goLayouts {
		check(t, []byte(day.Format(l)), day.UnixNano())
	}
	check(t, fmt.Append(nil, day.Unix()), day.UnixNano())
	check(t, fmt.Append(nil, day.UnixMilli()), day.UnixNano())
	if len(hits) < 15 {
		t.Errorf("only %d layouts were met", len(hits))
	}
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 4e18), rapid.Just(day.UnixNano())).Draw(t, "entry")
		near := rapid.Int64Range(-40*3600e9, 40*3600e9).Draw(t, "near")
		at := time.Unix(0, entry).Add(time.Duration(near)).UTC()
		text := []byte(at.Format(rapid.SampledFrom(goLayouts).Draw(t, "layout")))
		switch rapid.IntRange(0, 7).Draw(t, "change") {
		case 0:
			text = fmt.Append(nil, at.Unix())
		case 1:
			text = fmt.Append(nil, at.UnixMilli())
		case 2:
			text[rapid.IntRange(0, len(text)-1).Draw(t, "place")] = rapid.SampledFrom([]byte("0123456789 :-aZ")).Draw(t, "byte")
		}
		check(t, text, entry)
	})
}

func TestNoTimes(t *testing.T) {
	for _, c := range []struct {
		text  string
		entry int64
	}{
		{"2026-03-01T24:00:00Z", day.UnixNano()},
		{"2026-03-01T12:60:00Z", day.UnixNano()},
		{"2026-03-01T12:30:60Z", day.UnixNano()},
		{"2026-02-29T12:30:15Z", day.UnixNano()},
		{"2026-03-00T12:30:15Z", day.UnixNano()},
		{"2026-00-01T12:30:15Z", day.UnixNano()},
		{"2026-13-01T12:30:15Z", day.UnixNano()},
		{"2026-03-03T12:30:15Z", day.UnixNano()},     // too far off
		{"Mon Mar  1 12:30:15 2026", day.UnixNano()}, // it was a Sunday
		{"Mar  0 12:30:15", day.UnixNano()},
		{"mar  1 12:30:15", day.UnixNano()},
		{"1969-12-31T23:59:59Z", 0},
		{"2262-04-12T00:00:00.000000000Z", 1<<63 - 1}, // past what 64 bits hold
		{"0000000001", 1e9},
	} {
		for k, l := range layouts {
			if _, ok := l.parse([]byte(c.text), c.entry); ok && l.n >= len(c.text)-1 {
				t.Errorf("%q is a time of layout %d %q", c.text, k, l.pattern)
			}
		}
	}
}

func TestLayoutsPrintTheirWholeRange(t *testing.T) {
	for k, l := range layouts {
		for _, v := range []int64{l.min, l.max, (l.min + l.max) / 2} {
			if got := l.append(nil, v); len(got) != l.n {
				t.Errorf("layout %d %q prints %d as %q", k, l.pattern, v, got)
			}
		}
	}
	if len(layouts) > 0x80 {
		t.Errorf("%d layouts do not fit", len(layouts))
	}
}

// The numbers of layouts are part of the format.
func TestLayoutNumbersStay(t *testing.T) {
	for n, want := range map[Layout]string{0: "a b d H:M:S Y", 3: "Y-m-dTH:M:S.fffffffff", 9: "Y-m-dTH:M:S.fff", 10: "Y-m-dTH:M:S", 17: "Y-m-d H:M:S.fff",
		24: "Y-m-d H:M:S,fff", 25: "Y-m-d H:M:S", 33: "Y-m-d-H.M.S.fff", 42: "m-d H:M:S.fff", 49: "md H:M:S.fff", 54: "E"} {
		if int(n) >= len(layouts) || n.Pattern() != want {
			t.Errorf("layout %d is not %q", n, want)
		}
	}
}

func analyzed(t fataler, start int64, texts ...string) (*Table, *Block, *model.Strings, []int64) {
	t.Helper()
	lines, times := input(start, texts...)
	a := NewAnalyzer()
	b, err := a.Analyze(lines, times, nil, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	tab, _ := all(a)
	return tab, b, lines, times
}

func TestTablesComeBack(t *testing.T) {
	tab, _, _, _ := analyzed(t, day.UnixNano(), "a 1 b 2", "2026-03-01T12:30:15.123Z x 7", "", "\x00", "words")
	enc := tab.Append(nil)
	got, err := ParseTable(enc)
	if err != nil || !bytes.Equal(got.Append(nil), enc) || len(got.Templates) != len(tab.Templates) {
		t.Fatalf("%v", err)
	}
	for i := range enc {
		if _, err := ParseTable(enc[:i]); !errors.Is(err, column.ErrCorrupt) {
			t.Errorf("the first %d bytes pass for a table: %v", i, err)
		}
	}
}

var unionWords = []string{"open 1", "close 2 at 3", "x=4 y=5", "x=4 z=5 y=6", "5 6 7", "\x02", "", "plain", "2026-03-01T12:30:15.123Z go 1", "Mar  1 12:30:15 go 2", "y=1 x=2", "port 1 port 2", "port 5"}

func TestUnionServesBothSections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(unionWords), 1, 12).Draw(t, name)
		}
		ta, ba, la, sa := analyzed(t, day.UnixNano(), draw("a")...)
		tb, bb, lb, sb := analyzed(t, day.UnixNano(), draw("b")...)
		// Another version may give columns otherwise.
		if rapid.Bool().Draw(t, "other columns") {
			perm := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Perm(len(tb.Columns))
			cols := make([]Column, len(perm))
			for i, p := range perm {
				cols[p] = tb.Columns[i]
			}
			tb.Columns = cols
			for i := range tb.Templates {
				for k, c := range tb.Templates[i].Columns {
					tb.Templates[i].Columns[k] = uint32(perm[c])
				}
			}
			for i := range bb.Columns {
				bb.Columns[i].Column = uint32(perm[bb.Columns[i].Column])
			}
		}
		u, templates, columns := Union(ta, tb)
		if _, err := ParseTable(u.Append(nil)); err != nil {
			t.Fatalf("%v", err)
		}
		rebuild(t, u, func(n uint32) uint32 { return n }, ba, la, sa)
		for i := range bb.Columns {
			bb.Columns[i].Column = columns[bb.Columns[i].Column]
		}
		rebuild(t, u, func(n uint32) uint32 { return templates[n] }, bb, lb, sb)
		sorted := slices.Clone(columns)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(columns) {
			t.Fatalf("columns became one: %v", columns)
		}
	})
}

func TestUnionOfLikeSectionsIsNoLarger(t *testing.T) {
	a, _, _, _ := analyzed(t, 0, "open 1", "close 2 at 3", "x=4")
	b, _, _, _ := analyzed(t, 0, "x=9", "close 7 at 1", "open 1", "shut port 4")
	u, _, _ := Union(a, b)
	if len(u.Columns) != len(a.Columns)+1 || len(u.Templates) != len(a.Templates)+1 {
		t.Errorf("%d columns, %d templates of %d and %d", len(u.Columns), len(u.Templates), len(a.Columns), len(a.Templates))
	}
}

func TestUnionKeepsColumnsApart(t *testing.T) {
	slot := func(text string, col uint32) Template { return Template{[]byte(text + "\x00"), []uint32{col}} }
	a := &Table{Columns: make([]Column, 1), Templates: []Template{slot("long text port ", 0)}}
	b := &Table{Columns: make([]Column, 2), Templates: []Template{slot("other long text port ", 1), slot("long text port ", 0)}}
	u, templates, columns := Union(a, b)
	if columns[0] != 0 || columns[1] != 1 || len(u.Columns) != 2 || templates[1] != 0 || templates[0] != 1 {
		t.Errorf("columns %v of %d, templates %v", columns, len(u.Columns), templates)
	}
	b.Templates = []Template{slot("long text port ", 0), slot("long text port ", 1)}
	u, templates, columns = Union(a, b)
	if columns[0] != 0 || columns[1] != 1 || templates[0] != 0 || templates[1] != 1 || u.Templates[1].Columns[0] != 1 {
		t.Errorf("columns %v, templates %v", columns, templates)
	}
}

func FuzzParseTable(f *testing.F) {
	tab, _, _, _ := analyzed(f, day.UnixNano(), "a 1 b 2", "2026-03-01T12:30:15.123Z x 7", "\x00")
	f.Add(tab.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := ParseTable(b)
		if err != nil {
			if !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("%v does not say that it is damage", err)
			}
			return
		}
		for i := range tab.Templates {
			tab.Templates[i].Pieces()
		}
		u, _, _ := Union(tab, tab)
		if len(u.Append(nil)) < len(tab.Append(nil)) {
			t.Fatal("a union lost something")
		}
	})
}

func FuzzAnalyze(f *testing.F) {
	f.Add("a 1\nb 2\n\n2026-03-01T12:30:15.123Z x 10.0.0.1 \"q w 1\" 0x1f", day.UnixNano())
	f.Add("Mar  1 12:30:15 h\n1772368215\nI0301 12:30:15.123456 7\n\x00\x01\x02", day.UnixNano())
	f.Fuzz(func(t *testing.T, text string, start int64) {
		texts := strings.Split(text, "\n")
		texts = append(texts, text) // with newlines
		lines, times := input(start, texts...)
		a := NewAnalyzer()
		for range 2 {
			b, err := a.Analyze(lines, times, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			a.merger.active = true // the second time, with merging
			tab, number := all(a)
			rebuild(t, tab, number, b, lines, times)
		}
	})
}

// What was learnt in earlier sections changes templates, never lines: with all of it
// kept, with templates forgotten, and with words forgotten too.
func TestWhatWasLearntChangesNoLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewAnalyzer()
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,6}[0-9]?`), 1, 60)
		for range rapid.IntRange(2, 5).Draw(t, "sections") {
			vocabulary := words.Draw(t, "words")
			form := rapid.SampledFrom([]string{"user %s did %s at %s", "2026-03-01T12:30:%02d.123Z %s \"%s x\" %s", "Mar  1 12:30:15 %s=%s;%s", "%s"}).Draw(t, "form")
			for range rapid.IntRange(1, 3).Draw(t, "blocks") {
				var texts []string
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
				pick := func() string { return vocabulary[rng.IntN(len(vocabulary))] }
				for i := range rapid.IntRange(1, 400).Draw(t, "lines") {
					switch strings.Count(form, "%") {
					case 1:
						texts = append(texts, fmt.Sprintf(form, pick()))
					case 3:
						texts = append(texts, fmt.Sprintf(form, pick(), pick(), pick()))
					default:
						texts = append(texts, fmt.Sprintf(form, i%60, pick(), pick(), pick()))
					}
				}
				lines, times := input(day.UnixNano(), texts...)
				b, err := a.Analyze(lines, times, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				tab, number := all(a)
				rebuild(t, tab, number, b, lines, times)
			}
			a.next(rapid.SampledFrom([]int{1, 8, maxRaws / 4}).Draw(t, "raws"), maxText/4, rapid.SampledFrom([]int{1, maxContexts / 4}).Draw(t, "contexts"))
			if len(a.tok.raws) > maxRaws/4 || len(a.cols) > 0 {
				t.Fatalf("%d raw templates, %d columns are kept", len(a.tok.raws), len(a.cols))
			}
		}
	})
}
