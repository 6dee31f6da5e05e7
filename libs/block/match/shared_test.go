package match_test

import (
	"fmt"
	"math/rand/v2"
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

var phrases = []string{"level=error", "Level=Error", "level=info", "caller=main.go", "GrafanaAgent", "user", "Mar", "done in", "msg=\"", "\" ", "T", "deadbeef", "fade-cafe", "err", "or", "ünder", "\u212aelvin", "kelvin", "mi\u017fs", "pass"}

// speaking is lines of a few shapes the words of which are in values, too: as text, before
// numbers, as the only value, between times.
func speaking(r *rand.Rand) []block {
	word := func() string { return phrases[r.IntN(len(phrases))] }
	value := func(at time.Time) string {
		switch r.IntN(9) {
		case 0:
			return word() + fmt.Sprint(r.IntN(3000))
		case 1:
			return fmt.Sprintf("%08x", r.Uint32())
		case 2:
			return at.Format("Jan _2 15:04:05")
		case 3:
			return word()[:1] + word()
		case 4:
			return fmt.Sprintf("/%s/%s", word(), word())
		case 5:
			return fmt.Sprint(r.IntN(100))
		case 6:
			return word() + "7" // equal often
		}
		return fmt.Sprintf("%s%d%s", word(), r.IntN(5), word())
	}
	var shapes [][2]string
	for range 1 + r.IntN(5) {
		shapes = append(shapes, [2]string{word() + " " + word() + " ", " " + word() + " " + word()})
	}
	var blocks []block
	now := start
	for range 1 + r.IntN(4) {
		var b block
		few := shapes[r.IntN(len(shapes)):]
		from := r.IntN(3) // some blocks have values of one kind
		for range 20 + r.IntN(120) {
			now += int64(r.IntN(1e9))
			s := few[r.IntN(len(few))]
			at := time.Unix(0, now).UTC()
			v := value(at)
			if from == 0 {
				v = fmt.Sprint(r.IntN(1000))
			}
			b.add(s[0]+v+s[1]+" "+value(at), now)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// takenOver is the rows of a store in other blocks, which are taken over from those there.
func takenOver(t interface{ Fatal(...any) }, r *rand.Rand, s *store) *store {
	g, b := grams.NewBuilder(1), lines.NewBuilder(column.LevelFastest)
	b.SetGrams(g)
	out := &store{}
	var parts []lines.Part
	var rows block
	var text model.Strings
	flush := func() {
		if len(parts) == 0 {
			return
		}
		if _, err := b.AddParts(parts, &text, rows.times, nil, nil, len(rows.lines.Slab)); err != nil {
			t.Fatal(err)
		}
		out.blocks = append(out.blocks, rows)
		parts, rows, text = nil, block{}, model.Strings{}
	}
	for i := range s.blocks {
		n := s.blocks[i].lines.Len()
		for from := 0; from < n; {
			to := min(n, from+1+r.IntN(n))
			part := lines.Part{Body: s.bodies[i], From: from, To: to}
			if r.IntN(4) == 0 {
				part = lines.Part{From: 0, To: to - from}
			}
			for k := from; k < to; k++ {
				rows.add(string(s.blocks[i].lines.At(k)), s.blocks[i].times[k])
				if part.Body == nil {
					text.Append(s.blocks[i].lines.At(k))
				}
			}
			parts = append(parts, part)
			if from = to; r.IntN(3) == 0 {
				flush()
			}
		}
	}
	flush()
	out.bytes, out.matrix = b.Finish(), g.Finish()
	return opened(t, out)
}

// Words of templates are found in values, and rows counted without them are those that
// match, in blocks that are made of lines and of others' rows.
func TestWordsOfTemplatesInValues(t *testing.T) {
	var st stats
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "lines"), 8))
		s := build(t, speaking(r))
		for _, s := range []*store{s, takenOver(t, r, s)} {
			for range 6 {
				var filters []match.Filter
				for range 1 + r.IntN(4)/3 {
					text := phrases[r.IntN(len(phrases))]
					if r.IntN(2) == 0 {
						text = needle(r, s.blocks)
					} else if r.IntN(3) == 0 {
						text = []string{" ", "=", "r"}[r.IntN(3)] + text
					}
					term := match.Term{Literal: text}
					switch r.IntN(5) {
					case 0:
						term = match.Term{Literal: strings.ToUpper(text), Fold: true}
					case 1:
						term = match.Term{Regexp: `(?i)` + phraseOf(r) + `.*` + phraseOf(r)}
					}
					filters = append(filters, match.Filter{Any: []match.Term{term}, Negate: r.IntN(5) == 0})
				}
				check(t, s, filters, 0, 1, &st)
			}
		}
	})
	t.Logf("%+v", st)
	if st.skipped == 0 || st.all == 0 || st.counted == 0 || st.hits == 0 {
		t.Error("the lines and filters prove little")
	}
}

func phraseOf(r *rand.Rand) string {
	return strings.Trim(phrases[r.IntN(len(phrases))], `" .`)
}

// In-line times are not among the values that are told of: they hold words of templates, too.
func TestWordsOfTemplatesInTimes(t *testing.T) {
	var b block
	for i := range 60 {
		at := time.Unix(0, start+int64(i)*1e9).UTC()
		b.add(fmt.Sprintf("at [Mar  of %d", i), at.UnixNano())
		b.add(at.Format("seen at [Jan _2 15:04:05] ")+fmt.Sprint(i%7), at.UnixNano())
	}
	s := build(t, []block{b, b})
	times := false
	for _, c := range s.section.Table.Columns {
		times = times || c.IsTime
	}
	if !times {
		t.Fatal("the lines have no in-line times")
	}
	var st stats
	for _, text := range []string{"Mar  ", "Mar ", "[Mar ", "at [Mar ", "[Mar  "} {
		check(t, s, []match.Filter{{Any: []match.Term{{Literal: text}}}}, 0, 1, &st)
		check(t, s, []match.Filter{{Any: []match.Term{{Literal: text, Fold: true}}}}, 0, 1, &st)
	}
	if want := 2 * 2 * 10 * 120; st.hits != want {
		t.Errorf("%d rows match, want %d", st.hits, want)
	}
}
