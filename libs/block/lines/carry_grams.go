package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/template"
)

// pieces are parts of lines that are taken over, which together have all their grams: the
// first line of a template whole, of the others what is in and around slots, and of values
// that a dictionary tells from each other each once.
type pieces struct {
	block int // since the section began
	slab  []byte
	list  []grams.Piece
	plans map[string]*plan // by the template's text
	known [1 << 12]combination
}

// combination is values of a cluster's slots that were seen, as a number that tells those
// of one block's dictionaries from each other.
type combination struct {
	t     *taker
	c     *cluster
	block int
	key   uint64
}

// passed reports whether the next values of a cluster with several slots, all of which
// have dictionaries, were seen lately, and if so goes behind them.
func (p *pieces) passed(t *taker, c *cluster, places []int32) (seen, few bool) {
	key, all := uint64(0), uint64(1)
	for _, n := range places[c.from:c.to] {
		v := t.values[n]
		switch v.Info().Kind {
		case column.Const:
		case column.Dict:
			// No column comes twice: a template's slots have a column each.
			k := uint64(v.Distinct())
			if all *= k; all >= 1<<48 {
				return false, false
			}
			key = key*k + v.Number(int(t.cursors[n]))
		default:
			return false, false
		}
	}
	h := (key ^ uint64(c.from)<<40 ^ uint64(len(c.before))<<50) * 0x9E3779B97F4A7C15
	e, now := &p.known[h>>52], combination{t, c, p.block, key}
	if *e != now {
		*e = now
		return false, true
	}
	for _, n := range places[c.from:c.to] {
		t.cursors[n]++
	}
	return true, true
}

func (p *pieces) reset() {
	if p.block > 0 {
		clear(p.known[:]) // what it refers to goes
	}
	p.block = 0
	clear(p.plans)
}

func (p *pieces) begin() {
	p.block++
	p.slab, p.list = p.slab[:0], p.list[:0]
}

// plan is how pieces of a template's lines are made.
type plan struct {
	block    int // where the first line is known
	slots    []template.Piece
	clusters []cluster
}

// cluster is slots with so little text between them that grams may depend on several.
type cluster struct {
	from, to       int // slots
	before, behind []byte
	last, end      uint32 // its text in the line before; none: 0, 0
}

func (p *pieces) plan(t *template.Template) *plan {
	if l := p.plans[string(t.Text)]; l != nil {
		return l
	}
	l := &plan{slots: t.Pieces()}
	for i := 0; l.slots[i].Slot; i++ {
		k := len(l.clusters) - 1
		if literal := l.slots[i].Literal; k < 0 || grams.Apart(literal) {
			if k >= 0 {
				l.clusters[k].behind = grams.Behind(literal)
			}
			l.clusters = append(l.clusters, cluster{from: i, before: grams.Before(literal)})
			k++
		}
		l.clusters[k].to = i + 1
		l.clusters[k].behind = grams.Behind(l.slots[i+1].Literal)
	}
	if p.plans == nil {
		p.plans = map[string]*plan{}
	}
	p.plans[string(t.Text)] = l
	return l
}

// add adds the rows of a block up to one.
func (p *pieces) add(t *taker, to int) error {
	b := t.body
	if t.plans == nil {
		t.plans = make([]*plan, len(t.numbers))
		t.seen = make([][]bool, len(t.numbers))
		t.printers = make([]*slotPrinter, len(t.values))
		t.places = make([][]int32, len(t.numbers))
	}
	if t.block != p.block {
		t.block = p.block
		clear(t.seen)
	}
	for ; t.row < to; t.row++ {
		id := t.tids[t.row]
		l := t.plans[id]
		if l == nil {
			m := &b.section.Table.Templates[b.info.Templates[id].Template]
			l = p.plan(m)
			t.plans[id] = l
			t.places[id] = make([]int32, len(m.Columns))
			for i, c := range m.Columns {
				t.places[id][i] = int32(b.place(c))
			}
		}
		if l.block != p.block {
			l.block = p.block
			for i := range l.clusters {
				l.clusters[i].last, l.clusters[i].end = 0, 0
			}
			if err := p.whole(t, l, t.places[id]); err != nil {
				return err
			}
			continue
		}
		if t.seen[id] == nil {
			t.seen[id] = t.distinct(l, t.places[id])
		}
		seen := t.seen[id]
		for i := range l.clusters {
			c := &l.clusters[i]
			if c.to-c.from == 1 {
				n := t.places[id][c.from]
				if v := t.values[n]; v.Info().Kind == column.Dict || v.Info().Kind == column.Const {
					which, count := 0, 1
					if v.Info().Kind == column.Dict {
						which, count = int(v.Number(int(t.cursors[n]))), v.Distinct()
					}
					known := seen[which]
					seen[which] = true
					seen = seen[count:]
					if known {
						t.cursors[n]++
						continue
					}
					if err := p.cluster(t, l, c, t.places[id], true); err != nil {
						return err
					}
					continue
				}
			}
			known, few := p.passed(t, c, t.places[id])
			if known {
				continue
			}
			if err := p.cluster(t, l, c, t.places[id], few); err != nil {
				return err
			}
		}
	}
	return nil
}

// distinct returns what says of the values of slots with dictionaries whether they were
// seen.
func (t *taker) distinct(l *plan, places []int32) []bool {
	n := 0
	for i := range l.clusters {
		if c := &l.clusters[i]; c.to-c.from == 1 {
			switch v := t.values[places[c.from]]; v.Info().Kind {
			case column.Dict:
				n += v.Distinct()
			case column.Const:
				n++
			}
		}
	}
	return make([]bool, n)
}

// whole adds a line.
func (p *pieces) whole(t *taker, l *plan, places []int32) error {
	from := uint32(len(p.slab))
	for i := range l.slots {
		p.slab = append(p.slab, l.slots[i].Literal...)
		if !l.slots[i].Slot {
			break
		}
		if err := p.value(t, &l.slots[i], int(places[i])); err != nil {
			return err
		}
	}
	end := uint32(len(p.slab))
	p.list = grams.Chunks(p.list, p.slab, grams.Piece{From: from, Limit: end, To: end})
	return nil
}

// maxPiece is how long values are at most that are looked at as a whole: of longer ones
// parts recur.
const maxPiece = 32

// cluster adds what is in and around slots of a line. It is likely to come again where a
// dictionary has it.
func (p *pieces) cluster(t *taker, l *plan, c *cluster, places []int32, often bool) error {
	start := uint32(len(p.slab))
	p.slab = append(p.slab, c.before...)
	from := uint32(len(p.slab))
	for i := c.from; i < c.to; i++ {
		if i > c.from {
			p.slab = append(p.slab, l.slots[i].Literal...)
		}
		if err := p.value(t, &l.slots[i], int(places[i])); err != nil {
			return err
		}
	}
	to := uint32(len(p.slab))
	p.slab = append(p.slab, c.behind...)
	end := uint32(len(p.slab))
	if end-start == c.end-c.last {
		a, b := p.slab[from:to], p.slab[c.last+from-start:][:to-from]
		i, k := grams.Differ(a, b)
		if i == k {
			p.slab = p.slab[:start]
			return nil
		}
		from, to = from+uint32(i), from+uint32(k)
	}
	c.last, c.end = start, end
	piece := grams.Around(p.slab, start, end, from, to)
	if to-from > maxPiece {
		p.list = grams.Chunks(p.list, p.slab, piece)
		return nil
	}
	piece.Often = often
	p.list = append(p.list, piece)
	return nil
}

// value prints the next value of a column.
func (p *pieces) value(t *taker, s *template.Piece, n int) error {
	i := int(t.cursors[n])
	t.cursors[n]++
	c := t.printers[n]
	if c == nil {
		c = &slotPrinter{}
		c.set(t.values[n], s.Layout)
		t.printers[n] = c
	}
	at := len(p.slab)
	if cap(p.slab)-at < room+len(c.prefix)+c.length {
		p.slab = append(make([]byte, 0, 2*cap(p.slab)+2*room+len(c.prefix)+c.length), p.slab...)
	}
	out := p.slab[at:cap(p.slab)]
	switch c.print {
	case printNumber:
		k := copy(out, c.prefix)
		p.slab = p.slab[:at+k+putUint(out[k:], c.number(i))]
	case printPadded:
		k := copy(out, c.prefix)
		putDigits(out[k:k+c.length], c.number(i))
		p.slab = p.slab[:at+k+c.length]
	case printHex:
		putHex(out[:c.length], c.text[i*c.size:])
		p.slab = p.slab[:at+c.length]
	case printUUID:
		putUUID(out, c.text[i*16:])
		p.slab = p.slab[:at+column.UUIDLen]
	case printTime:
		if err := c.time(s.Layout.Floor(t.times[t.row]) - int64(c.number(i))); err != nil {
			return err
		}
		p.slab = p.slab[:at+copy(out, c.clock[:c.length])]
	default:
		p.slab = t.values[n].Append(p.slab, i)
	}
	return nil
}
