package match_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/model"
)

type block struct {
	lines model.Strings
	times []int64
}

const start = int64(1772368215123456789) // 2026-03-01T12:30:15

func (b *block) add(line string, t int64) {
	b.lines.AppendString(line)
	b.times = append(b.times, t)
}

// store is a section, its matrix, and the lines that went in.
type store struct {
	section *lines.Section
	region  *grams.Region
	bodies  []*lines.Body
	blocks  []block
	bytes   []byte
	matrix  []byte
}

func build(t interface{ Fatal(...any) }, blocks []block) *store {
	return buildAt(t, column.LevelFastest, blocks)
}

func buildAt(t interface{ Fatal(...any) }, level column.Level, blocks []block) *store {
	return buildWith(t, level, grams.DefaultShare, blocks)
}

func buildWith(t interface{ Fatal(...any) }, level column.Level, share float64, blocks []block) *store {
	g := grams.NewBuilder(share)
	b := lines.NewBuilder(level)
	b.SetGrams(g)
	for i := range blocks {
		if _, err := b.Add(&blocks[i].lines, blocks[i].times, nil); err != nil {
			t.Fatal(err)
		}
	}
	return opened(t, &store{blocks: blocks, bytes: b.Finish(), matrix: g.Finish()})
}

// opened opens what a store has as bytes.
func opened(t interface{ Fatal(...any) }, s *store) *store {
	var err error
	if s.section, err = lines.Open(s.bytes); err != nil {
		t.Fatal(err)
	}
	if s.region, err = grams.Open(s.matrix, true); err != nil {
		t.Fatal(err)
	}
	for i, k := range s.section.Blocks {
		body, err := s.section.Body(i, s.bytes[k.Offset:k.Offset+k.Size])
		if err != nil {
			t.Fatal(err)
		}
		s.bodies = append(s.bodies, body)
	}
	return s
}

// twin is the naive twin of a program: it looks at every line.
func twin(filters []match.Filter) func(line []byte) bool {
	tests := make([][]func([]byte) bool, len(filters))
	for i, f := range filters {
		for _, t := range f.Any {
			switch {
			case t.Regexp != "":
				tests[i] = append(tests[i], regexp.MustCompile(t.Regexp).Match)
			case t.Fold:
				tests[i] = append(tests[i], regexp.MustCompile("(?i)"+regexp.QuoteMeta(t.Literal)).Match)
			default:
				tests[i] = append(tests[i], func(line []byte) bool { return bytes.Contains(line, []byte(t.Literal)) })
			}
		}
	}
	return func(line []byte) bool {
		for i, f := range filters {
			hit := false
			for _, test := range tests[i] {
				hit = hit || test(line)
			}
			if hit == f.Negate {
				return false
			}
		}
		return true
	}
}

type stats struct{ skipped, all, counted, hits, programs int }

// check compares a program's rows with the twin's.
func check(t interface{ Fatalf(string, ...any) }, s *store, filters []match.Filter, from, to float64, st *stats) {
	p, err := match.Compile(filters)
	if err != nil {
		t.Fatalf("%v", err)
	}
	want := twin(filters)
	for _, region := range []*grams.Region{s.region, nil} {
		sp, may := p.Section(s.section, region), p.May(region)
		var got match.Bitmap
		for i := range s.blocks {
			b := &s.blocks[i]
			out := may != nil && !may.Has(i)
			n := b.lines.Len()
			a, z := int(from*float64(n)), int(to*float64(n))
			a, z = min(a, z), max(a, z)
			skip, all := sp.Skip(i), sp.All(i)
			counted, certain := sp.Count(i)
			matches := 0
			if certain != (skip || all) && (skip || all) {
				t.Fatalf("%v: block %d: skip %v, all %v, but its rows are not counted", p, i, skip, all)
			}
			if err := sp.Rows(i, s.bodies[i], a, z, &got); err != nil {
				t.Fatalf("%v: %v", p, err)
			}
			if out && !skip {
				t.Fatalf("%v: block %d is not skipped, though its grams rule it out", p, i)
			}
			for r := range n {
				w := want(b.lines.At(r))
				if skip && w || all && !w {
					t.Fatalf("%v: skip %v, all %v, but row %d of block %d: %v: %q", p, skip, all, r, i, w, b.lines.At(r))
				}
				if p.Match(b.lines.At(r)) != w {
					t.Fatalf("%v: Match says %v of %q", p, !w, b.lines.At(r))
				}
				if in := r >= a && r < z; got.Has(r) != (w && in) {
					t.Fatalf("%v: row %d of block %d (%d to %d): got %v, want %v: %q", p, r, i, a, z, got.Has(r), w && in, b.lines.At(r))
				}
				if w {
					matches++
				}
			}
			if certain && counted != matches {
				t.Fatalf("%v: block %d: %d rows counted, %d match", p, i, counted, matches)
			}
			st.hits += matches
			if certain && !skip && !all {
				st.counted++
			}
			if skip {
				st.skipped++
			}
			if all {
				st.all++
			}
		}
	}
	st.programs++
}

var words = []string{"GET", "error", "Kernel", "task", "user", "id=", "pod-", "\"", "[", "]", "{\"k\":", ",", "=", " ", "\n", "0x", ".", "-", "127.0.0.1", "T", ":", "\xff", "\x01", "\x00", "ü", "\u212aelvin", "mi\u017fs", "k8s", "a1b2c3d4", "ABCD12", "/api/v1/"}

func piece(r *rand.Rand, now int64) string {
	at := time.Unix(0, now).UTC()
	switch r.IntN(22) {
	case 0:
		return at.Format("2006-01-02T15:04:05.000Z")
	case 1:
		return at.Format("Jan _2 15:04:05")
	case 2:
		return at.Format("02/Jan/2006:15:04:05 -0700")
	case 3:
		return fmt.Sprint(now / 1e6)
	case 4:
		return fmt.Sprint(r.Uint64() >> r.IntN(64))
	case 5:
		return fmt.Sprintf("%05d", r.IntN(3000))
	case 6:
		return fmt.Sprintf("%016x", r.Uint64())
	case 7:
		return fmt.Sprintf("%07X", r.Uint32()>>4)
	case 8:
		return fmt.Sprintf("10.%d.%d.%d", r.IntN(3), r.IntN(256), r.IntN(256))
	case 9:
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16)
	case 10:
		return fmt.Sprintf("user%d", r.IntN(2000))
	case 11:
		return string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26)))
	case 12:
		return at.Format("2006-01-02 15:04:05,000")
	case 13:
		return fmt.Sprintf("%x", r.IntN(5))
	}
	return words[r.IntN(len(words))]
}

// made is lines of a few shapes each block, and some of none.
func made(r *rand.Rand) []block {
	var blocks []block
	shapes := make([][]int, 2+r.IntN(6))
	for i := range shapes {
		for range 1 + r.IntN(9) {
			shapes[i] = append(shapes[i], int(r.Int32()))
		}
	}
	now := start
	for range 1 + r.IntN(3) {
		var b block
		for range 1 + r.IntN(300) {
			now += int64(r.IntN(2e8))
			var s strings.Builder
			if r.IntN(12) == 0 {
				for range r.IntN(6) {
					s.WriteString(piece(r, now))
				}
			} else {
				shape := shapes[r.IntN(len(shapes))]
				for _, x := range shape {
					// The same sort of piece at the same place, mostly the same word.
					seed := rand.New(rand.NewPCG(uint64(x), 0))
					if k := x % 3; k == 0 {
						s.WriteString(piece(seed, now))
					} else {
						sort := uint64(x)
						s.WriteString(piece(rand.New(&chosen{first: sort, rest: r}), now))
					}
					s.WriteString([]string{" ", "", "=", ":"}[x>>8&3])
				}
			}
			b.add(s.String(), now+int64(r.IntN(1e7)))
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// chosen is a source whose first number is given.
type chosen struct {
	first uint64
	rest  *rand.Rand
	used  bool
}

func (c *chosen) Uint64() uint64 {
	if !c.used {
		c.used = true
		return c.first * 0x9E3779B97F4A7C15
	}
	return c.rest.Uint64()
}

// needle is cut from a line; half of the time bytes of it are changed.
func needle(r *rand.Rand, blocks []block) string {
	b := &blocks[r.IntN(len(blocks))]
	line := b.lines.At(r.IntN(b.lines.Len()))
	if len(line) == 0 {
		return "x"
	}
	from := r.IntN(len(line))
	n := []byte(string(line[from : from+min(len(line)-from, 1+r.IntN(24))]))
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(2) {
			at := r.IntN(len(n))
			switch r.IntN(4) {
			case 0:
				n[at] = byte(r.IntN(256))
			case 1:
				n[at] ^= 0x20
			case 2:
				n[at] = "0123456789abcdef .-:"[r.IntN(20)]
			default:
				n[at] = line[r.IntN(len(line))]
			}
		}
	}
	return string(n)
}

func text(r *rand.Rand, blocks []block) string {
	return strings.ToValidUTF8(needle(r, blocks), "?")
}

func term(r *rand.Rand, blocks []block) match.Term {
	q := func() string { return regexp.QuoteMeta(text(r, blocks)) }
	switch r.IntN(16) {
	case 0, 1, 2:
		return match.Term{Literal: text(r, blocks), Fold: true}
	case 3:
		return match.Term{Regexp: q() + "|" + q()}
	case 4:
		return match.Term{Regexp: "(?i)(" + q() + "|" + q() + ")"}
	case 5:
		return match.Term{Regexp: q() + ".*" + q()}
	case 6:
		return match.Term{Regexp: "(?i)" + q() + ".+" + q()}
	case 7:
		return match.Term{Regexp: "^" + q()}
	case 8:
		return match.Term{Regexp: q() + `[a-z0-9]*\d$`}
	case 9:
		return match.Term{Regexp: q() + "(" + q() + ")?.?" + q()}
	case 10:
		return match.Term{Regexp: []string{".", ".*", "a|", "(?s).+", `\d{3}`, `[^a]b`, "^$", `\bk`, "(?i)k", "(?i)S", "\ufffd", "[Ee]rror", `x*`, `(?i)[k-t]e`}[r.IntN(14)]}
	case 11:
		return match.Term{}
	}
	return match.Term{Literal: needle(r, blocks)}
}

func program(r *rand.Rand, blocks []block) []match.Filter {
	var out []match.Filter
	for range 1 + r.IntN(5)/2 {
		f := match.Filter{Negate: r.IntN(4) == 0}
		for range 1 + r.IntN(4)/2 {
			f.Any = append(f.Any, term(r, blocks))
		}
		out = append(out, f)
	}
	return out
}

func TestRandomLinesAndFilters(t *testing.T) {
	var st stats
	draws := 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "lines"), 1))
		s := build(t, made(r))
		for range 6 {
			filters := program(r, s.blocks)
			from, to := 0.0, 1.0
			if r.IntN(3) == 0 {
				from, to = r.Float64(), r.Float64()
			}
			check(t, s, filters, from, to, &st)
		}
	})
	t.Logf("%+v", st)
	if draws >= 100 && (st.skipped == 0 || st.all == 0 || st.hits == 0) { // else it was run for less
		t.Error("the lines and filters prove little")
	}
}

// repeats is how often a test repeats what it draws: less often with WEIR_FEWER, as in the run
// with the race detector.
func repeats(n int) int {
	if os.Getenv("WEIR_FEWER") != "" {
		return max(n/4, 1)
	}
	return n
}

// samples are real logs, used where they are at hand.
var samples = filepath.Join("..", "..", "..", "..", "shared", "corpus", "samples")

func TestSamples(t *testing.T) {
	paths, _ := filepath.Glob(filepath.Join(samples, "*.log"))
	if len(paths) == 0 {
		t.Skip("no samples in " + samples)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var blocks []block
			now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
			for len(data) > 0 && len(blocks) < 4 {
				var b block
				// Those of one sample have 14 KiB a line, at which the twin is slow.
				for len(data) > 0 && b.lines.Len() < repeats(700) && len(b.lines.Slab) < repeats(4)<<18 {
					line, rest, _ := bytes.Cut(data, []byte("\n"))
					now += 1e7
					b.add(string(line), timeOf(line, now))
					data = rest
				}
				blocks = append(blocks, b)
			}
			s := build(t, blocks)
			r := rand.New(rand.NewPCG(5, 5))
			var st stats
			for range repeats(12) {
				check(t, s, program(r, blocks), 0, 1, &st)
			}
			t.Logf("%+v", st)
		})
	}
}

// timeOf finds the time in a line, so that it is one in terms of the entry's.
func timeOf(line []byte, now int64) int64 {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "Jan _2 15:04:05", "02/Jan/2006:15:04:05", "20060102-15:04:05"} {
		for i := 0; i < 60 && i+len(layout) <= len(line); i++ {
			if at, err := time.Parse(layout, string(line[i:i+len(layout)])); err == nil {
				if at.Year() == 0 {
					at = at.AddDate(2026, 0, 0)
				}
				return at.UnixNano() + now%1e9
			}
		}
	}
	return now
}

// A program that prunes nothing says the same.
func TestUnpruned(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	s := build(t, made(r))
	for range 50 {
		p, err := match.Compile(program(r, s.blocks))
		if err != nil {
			t.Fatal(err)
		}
		u := p.Unpruned().Section(s.section, s.region)
		sp := p.Section(s.section, s.region)
		for i := range s.blocks {
			if u.Skip(i) || u.All(i) {
				t.Error("an unpruned program knows without looking")
			}
			var a, b match.Bitmap
			if err := sp.Rows(i, s.bodies[i], 0, s.blocks[i].lines.Len(), &a); err != nil {
				t.Fatal(err)
			}
			if err := u.Rows(i, s.bodies[i], 0, s.blocks[i].lines.Len(), &b); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(a.AppendRows(nil)) != fmt.Sprint(b.AppendRows(nil)) {
				t.Errorf("%v: %d rows, unpruned %d", p, a.Count(), b.Count())
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, f := range []match.Term{{Regexp: "("}, {Literal: "\xff", Fold: true}} {
		if _, err := match.Compile([]match.Filter{{Any: []match.Term{f}}}); err == nil {
			t.Errorf("%+v compiles", f)
		}
	}
}

// FuzzMatch compares arbitrary literals and regular expressions over arbitrary lines
// with the twin.
func FuzzMatch(f *testing.F) {
	f.Add([]byte("level=info id=17 peer=10.0.0.1\nlevel=warn id=18 peer=10.0.1.1\n2026-03-01T12:30:15.001Z x=deadbeef01\n\xe2\x84\xaa 1"), "id=1", "(?i)K", uint8(0))
	f.Add([]byte("a 1\nb 22\nc 333 4f\n\x00 5"), "22", "[a-c] \\d+", uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, literal, re string, flags uint8) {
		if len(data) > 1<<14 {
			return
		}
		filters := []match.Filter{{Any: []match.Term{{Literal: literal}}, Negate: flags&1 != 0}}
		if _, err := regexp.Compile(re); err == nil && len(re) < 100 {
			filters[0].Any = append(filters[0].Any, match.Term{Regexp: re})
			if flags&2 != 0 {
				filters = append(filters, match.Filter{Any: []match.Term{{Regexp: re}}, Negate: flags&4 != 0})
			}
		}
		if _, err := regexp.Compile("(?i)" + regexp.QuoteMeta(literal)); err == nil && flags&8 != 0 {
			filters = append(filters, match.Filter{Any: []match.Term{{Literal: literal, Fold: true}}})
		}
		var b block
		for i := range 3 {
			for line := range bytes.SplitSeq(data, []byte("\n")) {
				b.add(string(line), start+int64(i)*1e9)
			}
		}
		check(t, build(t, []block{b, b}), filters, 0, 1, &stats{})
	})
}
