package match_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/match"
)

// What is said to be lacking in rows of some templates is in none of them.
func TestLacks(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 3))
	lacking, having := 0, 0
	for range repeats(60) {
		s := build(t, made(r))
		for range 8 {
			filters := program(r, s.blocks)
			p, err := match.Compile(filters)
			if err != nil {
				t.Fatal(err)
			}
			want := twin(filters)
			sp := p.Section(s.section, s.region)
			for i := range s.blocks {
				templates := make([]bool, len(s.bodies[i].Info().Templates))
				for k := range templates {
					templates[k] = r.IntN(3) > 0
				}
				lacks, err := sp.Lacks(i, s.bodies[i], templates)
				if err != nil {
					t.Fatal(err)
				}
				tids, err := s.bodies[i].RowTemplates()
				if err != nil {
					t.Fatal(err)
				}
				has := false
				for row, tid := range tids {
					if line := s.blocks[i].lines.At(row); templates[tid] && want(line) {
						if has = true; lacks {
							t.Fatalf("%v is said to be lacking: %q", p, line)
						}
					}
				}
				if lacks {
					lacking++
				} else if has {
					having++
				}
			}
		}
	}
	if lacking < 50 || having < 50 {
		t.Errorf("%d lack, %d have", lacking, having)
	}
}

// In-line times are found however far they are from the entries' own, wherever they are
// in lines that have one, several or none.
func TestInlineTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 3))
	var st stats
	for round := range 40 {
		layout := []string{"2006-01-02T15:04:05.000", "2006-01-02 15:04:05,000000", "Jan _2 15:04:05", "02/Jan/2006:15:04:05", "ms", "s"}[round%6]
		unit := []time.Duration{time.Millisecond, time.Microsecond, time.Second, time.Second, time.Millisecond, time.Second}[round%6]
		now := start
		if r.IntN(2) == 0 {
			now = start/86400e9*86400e9 - 20e9 // midnight is near
		}
		var b block
		for range 200 {
			now += r.Int64N(int64(unit) * 4)
			show := func() string {
				at := time.Unix(0, now-r.Int64N(255)*int64(unit)).UTC()
				switch layout {
				case "ms":
					return fmt.Sprint(at.UnixMilli())
				case "s":
					return fmt.Sprint(at.Unix())
				}
				return at.Format(layout)
			}
			switch k := r.IntN(8); {
			case k == 0 && round%2 == 0:
				b.add("no time", now)
			case k == 1 && round%3 == 0:
				b.add(fmt.Sprintf("from %s to %s x", show(), show()), now)
			default:
				b.add(fmt.Sprintf("at=%s n=%d", show(), r.IntN(100)), now)
			}
		}
		s := build(t, []block{b})
		for range 40 {
			line := b.lines.At(r.IntN(b.lines.Len()))
			from := r.IntN(len(line))
			text := []byte(string(line[from : from+1+r.IntN(min(14, len(line)-from))]))
			if r.IntN(4) == 0 {
				text[r.IntN(len(text))] = "0123456789"[r.IntN(10)]
			}
			check(t, s, []match.Filter{{Any: []match.Term{{Literal: string(text), Fold: r.IntN(4) == 0}}}}, 0, 1, &st)
		}
	}
	if st.hits == 0 {
		t.Error("nothing was found")
	}
}
