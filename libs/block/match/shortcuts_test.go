package match

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// A clock says of times of every layout what their texts say, and what they all begin with
// rules out none of them.
func TestClock(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	hits := 0
	for l := template.Layout(0); l.Valid(); l++ {
		perSecond := 1e9 / l.Unit()
		for range 60 {
			lo := (1_700_000_000 + r.Int64N(100_000_000)) * perSecond
			if lo += r.Int64N(perSecond); r.IntN(3) == 0 {
				lo -= lo % (86400 * perSecond) // midnight
				lo -= r.Int64N(5 * perSecond)
			}
			span := []int64{0, 3, 60, 5000, 90000, 3_000_000}[r.IntN(6)]*perSecond + r.Int64N(perSecond)
			hi := lo + span
			text, n := l.Alike(nil, lo, hi)
			begin := text[:n]
			at := func() int64 { return lo + r.Int64N(span+1) }
			for range 12 {
				part := l.Append(nil, at())
				from := r.IntN(len(part))
				part = bytes.Clone(part[from : from+1+r.IntN(len(part)-from)])
				if r.IntN(3) == 0 {
					part[r.IntN(len(part))] = "0123456789- :Tad"[r.IntN(16)]
				}
				w := want{way: way(r.IntN(4)), text: part}
				fold := r.IntN(3) == 0
				if fold {
					w.text = lower(nil, part)
				}
				c := newClock(l, begin, &w, fold)
				could := fitsAfter(begin, l, w.way, w.text, fold)
				x := at()
				for range 20 {
					s := l.Append(nil, x)
					if !bytes.HasPrefix(s, begin) {
						t.Fatalf("%s: %q does not begin with %q", l.Pattern(), s, begin)
					}
					want := holds(s, w.way, &needle{text: w.text, fold: fold})
					if c.holds(x) != want {
						t.Fatalf("%s: %q (way %d, any case %v) in %q: want %v", l.Pattern(), w.text, w.way, fold, s, want)
					}
					if want && !could {
						t.Fatalf("%s: %q (way %d) in %q is ruled out by %q", l.Pattern(), w.text, w.way, s, begin)
					}
					if want {
						hits++
					}
					switch r.IntN(3) {
					case 0:
						x = at()
					case 1:
						x = min(hi, x+r.Int64N(perSecond+1))
					}
				}
			}
		}
	}
	if hits < 1000 {
		t.Errorf("%d times hold what was looked for", hits)
	}
}

// Times are rounded down as layouts round them.
func TestFloor(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for l := template.Layout(0); l.Valid(); l++ {
		for range 200 {
			x := r.Int64() >> r.IntN(64) * (1 - 2*r.Int64N(2))
			if r.IntN(3) == 0 {
				x -= x % l.Unit()
			}
			if got, want := floor(x, l.Unit()), l.Floor(x); got != want {
				t.Fatalf("%s: %d for %d, want %d", l.Pattern(), got, x, want)
			}
		}
	}
}

// Every template that a needle has alignments with is a candidate, and many are not.
func TestCandidates(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	aligned, marked, all := 0, 0, 0
	for range 40 {
		words := []string{"id", " user", "a", "=", ".", "ab12ab12ab12", "-", "/x/", ": ", " request of the day ", "\"trace_id\":\"", "e"}
		var shapes [][]string
		for range 30 {
			var s []string
			for range 2 + r.IntN(9) {
				s = append(s, words[r.IntN(len(words))], []string{"", "%d", "%x", "1%02d", "%s"}[r.IntN(5)])
			}
			shapes = append(shapes, s)
		}
		var rows model.Strings
		var times []int64
		for i := range 600 {
			var b strings.Builder
			for _, s := range shapes[r.IntN(len(shapes))] {
				switch {
				case s == "%s":
					fmt.Fprintf(&b, "w%dz", r.IntN(100))
				case strings.Contains(s, "%"):
					fmt.Fprintf(&b, s, r.IntN(100))
				default:
					b.WriteString(s)
				}
			}
			rows.AppendString(b.String())
			times = append(times, int64(i)*1e9)
		}
		builder := lines.NewBuilder(column.LevelFastest)
		if _, err := builder.Add(&rows, times, nil); err != nil {
			t.Fatal(err)
		}
		s, err := lines.Open(builder.Finish())
		if err != nil {
			t.Fatal(err)
		}
		x := newIndex(s)
		around(t, x)
		for range 60 {
			line := rows.At(r.IntN(rows.Len()))
			from := r.IntN(len(line))
			n := needle{text: bytes.Clone(line[from : from+min(len(line)-from, 2+r.IntN(90))])}
			if r.IntN(2) == 0 {
				n.text[r.IntN(len(n.text))] = "0123456789abc=. "[r.IntN(16)]
			}
			if r.IntN(4) == 0 {
				n.text, n.fold = lower(nil, n.text), true
			}
			how := x.candidates(&n)
			for i := range s.Table.Templates {
				var l slotList
				l.set(x, uint32(i))
				found, ok := align(&n, l.slots, l.last, func(s *slot, w way, part []byte) bool { return x.possible(s.column, w, part, n.fold) })
				is := how != nil && how[i]&(acrossSlots|inLiteral) != 0
				if (!ok || len(found) > 0) && !is {
					t.Fatalf("%q has %d alignments with %q, which is no candidate", n.text, len(found), s.Table.Templates[i].Pattern())
				}
				if all++; is {
					marked++
				}
				if len(found) > 0 {
					aligned++
				}
			}
		}
	}
	t.Logf("%d candidates, %d with alignments, of %d", marked, aligned, all)
	if aligned == 0 || marked > all/2 {
		t.Errorf("%d candidates, %d with alignments, of %d", marked, aligned, all)
	}
}
