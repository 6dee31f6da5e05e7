package match_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/match"
)

// digitLine is a line of one of a few shapes, which are full of digits.
func digitLine(r *rand.Rand, now int64) string {
	at := time.Unix(0, now).UTC()
	switch r.IntN(8) {
	case 0:
		return fmt.Sprintf("%s id=u%d seq=%d", at.Format("2006-01-02T15:04:05.000000Z"), 100000+r.IntN(900000), now/1e6)
	case 1:
		return fmt.Sprintf("%s trace=%016x%016x", at.Format("2006-01-02T15:04:05.000000000Z"), r.Uint64(), r.Uint64())
	case 2:
		return fmt.Sprintf("req %08x-%04x-4%03x-a%03x-%012x took %dns", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16, r.IntN(1e9))
	case 3:
		return fmt.Sprintf("blk_%d pad=%010d of %d", r.Uint64()>>1, r.IntN(1e9), r.IntN(3))
	case 4:
		return fmt.Sprintf("user%d%06d at %s", r.IntN(9), r.IntN(1e6), at.Format("2006-01-02 15:04:05,000"))
	case 5:
		return fmt.Sprintf("%s %d INFO blk", at.Format("060102 150405"), r.IntN(300))
	case 6:
		return fmt.Sprintf("[%d] since %d.", at.Unix(), at.UnixMilli())
	}
	return fmt.Sprintf("ptr=0x%012X 4%d5", r.Uint64()>>16, r.IntN(1e7))
}

// Rows are the twin's however often columns were searched, and whatever was made of it.
func TestSearchedOften(t *testing.T) {
	windows, layouts := map[column.Kind]int{}, map[string]bool{}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 2))
		var b block
		now := start
		for range 8 * 300 {
			now += r.Int64N(2e8)
			b.add(digitLine(r, now), now)
		}
		s := build(t, []block{b})
		body := s.bodies[0]
		cut := func() string {
			line := string(b.lines.At(r.IntN(b.lines.Len())))
			n := min(len(line), 6+r.IntN(14))
			from := r.IntN(len(line) - n + 1)
			text := []byte(line[from : from+n])
			switch r.IntN(4) {
			case 0: // one that is about nowhere
				text[r.IntN(n)] = "0123456789abcdef"[r.IntN(16)]
			case 1:
				return strings.ToLower(string(text))
			}
			return string(text)
		}
		var got match.Bitmap
		for i := range 90 {
			text := cut()
			filter := match.Filter{Any: []match.Term{{Literal: text, Fold: i%5 == 4}}}
			p, err := match.Compile([]match.Filter{filter})
			if err != nil {
				t.Fatal(err)
			}
			want := twin([]match.Filter{filter})
			if err := p.Section(s.section, nil).Rows(0, body, 0, b.lines.Len(), &got); err != nil {
				t.Fatal(err)
			}
			for row := range b.lines.Len() {
				if w := want(b.lines.At(row)); got.Has(row) != w {
					t.Fatalf("seed %d, search %d for %q: row %d: got %v, want %v: %q", seed, i, text, row, got.Has(row), w, b.lines.At(row))
				}
			}
		}
		for i, c := range body.Columns() {
			if body.Windows(i) != nil {
				windows[c.Kind]++
				layouts[s.section.Table.Columns[c.ID].Layout.Pattern()] = true
			}
		}
	}
	for _, kind := range []column.Kind{column.Int, column.Pad, column.Hex, column.UUID, column.Signed} {
		if windows[kind] == 0 {
			t.Errorf("no windows of %v", kind)
		}
	}
	for _, pattern := range []string{"ymd HMS", "K", "E", "Y-m-dTH:M:S.ffffff", "Y-m-dTH:M:S.fffffffff"} {
		if !layouts[pattern] {
			t.Errorf("no windows of times as %s", pattern)
		}
	}
}

// Many who search one body at once find what the twin finds, while what searches make of its
// columns and its section is made.
func TestSearchedByMany(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	var b block
	now := start
	for range 600 {
		now += r.Int64N(2e8)
		b.add(digitLine(r, now), now)
	}
	s := build(t, []block{b})
	body := s.bodies[0]
	var programs []*match.Program
	var want [][]bool
	for i := range 60 {
		line := string(b.lines.At(r.IntN(b.lines.Len())))
		n := min(len(line), 6+r.IntN(8))
		from := r.IntN(len(line) - n + 1)
		text := []byte(line[from : from+n])
		if i%2 == 0 {
			text[r.IntN(n)] = "0123456789"[r.IntN(10)]
		}
		filters := []match.Filter{{Any: []match.Term{{Literal: string(text), Fold: i%5 == 4}}}}
		p, err := match.Compile(filters)
		if err != nil {
			t.Fatal(err)
		}
		is, rows := twin(filters), make([]bool, b.lines.Len())
		for row := range rows {
			rows[row] = is(b.lines.At(row))
		}
		programs, want = append(programs, p), append(want, rows)
	}
	var searching sync.WaitGroup
	for first := range 4 {
		searching.Go(func() {
			var got match.Bitmap
			for i := range programs {
				i = (i + first*7) % len(programs)
				if err := programs[i].Section(s.section, s.region).Rows(0, body, 0, b.lines.Len(), &got); err != nil {
					t.Error(err)
					return
				}
				for row, w := range want[i] {
					if got.Has(row) != w {
						t.Errorf("%v: row %d: got %v, want %v: %q", programs[i], row, got.Has(row), w, b.lines.At(row))
						return
					}
				}
			}
		})
	}
	searching.Wait()
	windows := 0
	for i := range body.Columns() {
		if body.Windows(i) != nil {
			windows++
		}
	}
	if windows == 0 {
		t.Error("nobody made windows")
	}
}
