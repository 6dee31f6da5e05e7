package match_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/model"
)

// timeShape is how lines show a time, given in units.
type timeShape struct {
	unit time.Duration
	show func(at time.Time) string
}

func format(layout string) func(time.Time) string {
	return func(at time.Time) string { return at.Format(layout) }
}

var timeShapes = []timeShape{
	{time.Millisecond, format("2006-01-02T15:04:05.000")},
	{time.Microsecond, format("2006-01-02 15:04:05,000000")},
	{time.Millisecond, func(at time.Time) string { return fmt.Sprint(at.UnixMilli()) }},
	{time.Second, format("02/Jan/2006:15:04:05")},
}

// Lines that show two times, equal ones too, are found by what is in the first, the second,
// both and around them: if the times have columns of their own, and if they share one, as
// sections may have it.
func TestTwoInlineTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 3))
	var st stats
	for round := range 48 {
		shape := timeShapes[round%len(timeShapes)]
		s := twoTimes(t, r, shape, round/len(timeShapes)%2 == 0, round/8%2 == 0)
		b := &s.blocks[0]
		for range 40 {
			line := b.lines.At(r.IntN(b.lines.Len()))
			from := r.IntN(len(line))
			if r.IntN(3) == 0 {
				from = max(0, len(line)/2-8-r.IntN(4)) // about the text between
			}
			text := []byte(string(line[from : from+1+r.IntN(min(40, len(line)-from))]))
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

// twoTimes makes lines of which some show two times, some none, and some one if with is
// set. If shared is set these are all of one column.
func twoTimes(t *testing.T, r *rand.Rand, shape timeShape, shared, with bool) *store {
	var kinds []byte
	for range 60 {
		kinds = append(kinds, "xd"...)
		if with && r.IntN(2) == 0 {
			kinds = append(kinds, 'z')
		}
	}
	r.Shuffle(len(kinds), func(i, k int) { kinds[i], kinds[k] = kinds[k], kinds[i] })
	// How far the times that lines show are from the entries', one after the other.
	far := make([]int64, len(kinds))
	for i := range far {
		if far[i] = r.Int64N(255); i > 0 && r.IntN(3) == 0 {
			far[i] = far[i-1]
		}
	}
	unit, now, next := int64(shape.unit), start, 0
	if r.IntN(2) == 0 {
		now = start/86400e9*86400e9 - 20*unit // midnight is near
	}
	// Lines with one time each, and what they are once x has those of d.
	var one, b block
	for i, kind := range kinds {
		now += r.Int64N(unit * 4)
		show := func(far int64) string { return shape.show(time.Unix(0, (now/unit-far)*unit).UTC()) }
		one.add(fmt.Sprintf("%c: at from %s %c", kind, show(far[i]), kind), now)
		switch kind {
		case 'x':
			b.add(fmt.Sprintf("x: at from %s to %s x", show(far[next]), show(far[next+1])), now)
			next += 2
		case 'd':
			b.add("d: at from no time d", now)
		case 'z':
			b.add(fmt.Sprintf("z: at from %s z", show(far[next])), now)
			next++
		}
	}
	if !shared {
		return build(t, []block{b})
	}
	s := build(t, []block{one})
	s.blocks, s.region = []block{b}, nil
	share(t, s)
	return s
}

// share gives lines x two slots of the column that all lines have, and takes it from lines d.
func share(t *testing.T, s *store) {
	table := *s.section.Table
	shared := table.Templates[s.section.Blocks[0].Templates[0].Template].Columns[0]
	for _, c := range s.section.Blocks[0].Templates {
		m := &table.Templates[c.Template]
		from, to := template.NextSlot(m.Text, 0)
		if len(m.Columns) != 1 || !table.Columns[shared].IsTime || m.Columns[0] != shared {
			t.Fatalf("template %q of columns %v", m.Text, m.Columns)
		}
		head, slot, tail := string(m.Text[:from]), string(m.Text[from:to]), string(m.Text[to:])
		switch m.Text[0] {
		case 'x':
			m.Text = []byte(head + slot + " to " + slot + tail)
			m.Columns = []uint32{shared, shared}
		case 'd':
			m.Text, m.Columns = []byte(head+"no time"+tail), nil
		}
	}
	parsed, err := template.ParseTable(table.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	s.section.Table = parsed
	k := &s.section.Blocks[0]
	k.Bytes = len(s.blocks[0].lines.Slab)
	body, err := s.section.Body(0, s.bytes[k.Offset:k.Offset+k.Size])
	if err != nil {
		t.Fatal(err)
	}
	s.bodies = []*lines.Body{body}
	var rows model.Rows
	if err := body.Rows(0, k.Rows, &rows); err != nil {
		t.Fatal(err)
	}
	if b := &s.blocks[0]; string(rows.Lines.Slab) != string(b.lines.Slab) {
		t.Fatalf("lines %.300q, not %.300q", rows.Lines.Slab, b.lines.Slab)
	}
}
