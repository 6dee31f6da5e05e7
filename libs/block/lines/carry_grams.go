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

	// Of the rows that are added: by template, and by slot of it.
	heads  []head
	used   []uint16
	rows   []uint32
	values []uint32 // which of the column's values
	keys   []uint32 // of one cluster's rows
	marks  []uint64 // of values of dictionaries in the block that were seen
}

// head is where the rows of a template are, and their values.
type head struct{ n, row, value int }

func (p *pieces) reset() {
	p.block = 0
	clear(p.plans)
}

func (p *pieces) begin() {
	p.block++
	p.slab, p.list, p.marks = p.slab[:0], p.list[:0], p.marks[:0]
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

// route is the way of a template of a taker through its columns.
type route struct {
	plan   *plan
	places []int32 // of each slot, where its column is
	sets   []set   // of each cluster
	marks  int     // how many words its sets take
	block  int     // of pieces: for which at is
	at     int     // where they are
}

// set is what tells which values of a cluster were seen in a block: a bit for each
// combination of values of dictionaries.
type set struct {
	at    int // in words
	words int // 0: there is none
	dict  bool
}

const (
	// maxSet and maxMarks are how many words one set, and those of a block, take.
	maxSet   = 1 << 10
	maxMarks = 1 << 17
	// maxValues is how many values of slots are looked at together, if they are of
	// more than one row.
	maxValues = 1 << 15
)

func (p *pieces) route(t *taker, id uint16) *route {
	r := &t.routes[id]
	if r.plan != nil {
		return r
	}
	b := t.body
	k := &b.info.Templates[id]
	m := &b.section.Table.Templates[k.Template]
	r.plan = p.plan(m)
	r.places = make([]int32, len(m.Columns))
	for i, c := range m.Columns {
		r.places[i] = int32(b.place(c))
	}
	r.sets = make([]set, len(r.plan.clusters))
	for i := range r.sets {
		c, s := &r.plan.clusters[i], &r.sets[i]
		s.dict = true
		all := uint64(1)
		for _, n := range r.places[c.from:c.to] {
			switch v := t.values[n]; v.Info().Kind {
			case column.Const:
			case column.Dict:
				all = min(all*uint64(v.Distinct()), 1<<32)
			default:
				s.dict = false
			}
		}
		if words := (all + 63) / 64; s.dict && words <= maxSet && words <= 1+uint64(k.Rows) {
			s.at, s.words = r.marks, int(words)
			r.marks += s.words
		}
	}
	return r
}

// ready makes the sets of a template empty for a block that is new. false: there is no
// room for them.
func (p *pieces) ready(r *route) bool {
	if r.block != p.block {
		r.block, r.at = p.block, -1
		if n := len(p.marks); n+r.marks <= maxMarks {
			r.at = n
			p.marks = append(p.marks, make([]uint64, r.marks)...)
		}
	}
	return r.at >= 0
}

// add adds the rows of a block up to one.
func (p *pieces) add(t *taker, to int) error {
	if t.routes == nil {
		t.routes = make([]route, len(t.numbers))
		t.printers = make([]*slotPrinter, len(t.values))
	}
	if len(p.heads) < len(t.numbers) {
		p.heads = make([]head, len(t.numbers))
	}
	for t.row < to {
		from, values := t.row, 0
		for ; t.row < to; t.row++ {
			id := t.tids[t.row]
			n := len(p.route(t, id).places)
			if values += n; values > maxValues && t.row > from {
				values -= n
				break
			}
			if p.heads[id].n == 0 {
				p.used = append(p.used, id)
			}
			p.heads[id].n++
		}
		p.sort(t, from, values)
		row, value := 0, 0
		for _, id := range p.used {
			n := p.heads[id].n
			p.heads[id] = head{}
			all := n * len(t.routes[id].places)
			if err := p.template(t, id, p.rows[row:row+n], p.values[value:value+all]); err != nil {
				p.used = p.used[:0]
				clear(p.heads)
				return err
			}
			row, value = row+n, value+all
		}
		p.used = p.used[:0]
	}
	return nil
}

// sort puts the rows of each template together, and the values of each of its slots.
func (p *pieces) sort(t *taker, from, values int) {
	if n := t.row - from; cap(p.rows) < n {
		p.rows = make([]uint32, n+n/4)
	}
	if cap(p.values) < values {
		p.values = make([]uint32, values+values/4)
	}
	p.rows, p.values = p.rows[:cap(p.rows)], p.values[:cap(p.values)]
	row, value := 0, 0
	for _, id := range p.used {
		h := &p.heads[id]
		h.row, h.value = row, value
		row += h.n
		value += h.n * len(t.routes[id].places)
	}
	for k, id := range t.tids[from:t.row] {
		h := &p.heads[id]
		p.rows[h.row] = uint32(from + k)
		h.row++
		at := h.value
		h.value++
		for _, n := range t.routes[id].places {
			p.values[at] = t.cursors[n]
			t.cursors[n]++
			at += h.n
		}
	}
}

// template adds rows of a template, of which values has the values of each slot.
func (p *pieces) template(t *taker, id uint16, rows, values []uint32) error {
	r := &t.routes[id]
	l, n := r.plan, len(rows)
	if l.block != p.block {
		l.block = p.block
		for i := range l.clusters {
			l.clusters[i].last, l.clusters[i].end = 0, 0
		}
		if err := p.whole(t, r, rows[0], values, n); err != nil {
			return err
		}
	}
	room := p.ready(r)
	for i := range l.clusters {
		c, s := &l.clusters[i], &r.sets[i]
		own := values[c.from*n : c.to*n]
		var err error
		switch {
		case room && s.words > 0:
			err = p.distinct(t, r, c, p.marks[r.at+s.at:][:s.words], rows, own)
		case c.to-c.from == 1 && !s.dict:
			err = p.single(t, r, c, rows, own)
		default:
			for k := 0; k < n && err == nil; k++ {
				err = p.cluster(t, r, c, rows, own, k, s.dict)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// distinct adds a cluster of rows, all slots of which have dictionaries: each combination
// of values once.
func (p *pieces) distinct(t *taker, r *route, c *cluster, marks []uint64, rows, own []uint32) error {
	n := len(rows)
	if cap(p.keys) < n {
		p.keys = make([]uint32, n+n/4)
	}
	keys := p.keys[:n]
	clear(keys)
	for i, place := range r.places[c.from:c.to] {
		v := t.values[place]
		if v.Info().Kind == column.Const {
			continue
		}
		// No column comes twice: a template's slots have a column each.
		nums, all := v.Numbers(), uint32(v.Distinct())
		for k, x := range own[i*n:][:n] {
			keys[k] = keys[k]*all + uint32(nums[x])
		}
	}
	for k, key := range keys {
		m := &marks[key>>6]
		bit := uint64(1) << (key & 63)
		if *m&bit != 0 {
			continue
		}
		*m |= bit
		if err := p.cluster(t, r, c, rows, own, k, true); err != nil {
			return err
		}
	}
	return nil
}

// whole adds the first of rows as a line.
func (p *pieces) whole(t *taker, r *route, row uint32, values []uint32, n int) error {
	from := uint32(len(p.slab))
	slots := r.plan.slots
	for i := range slots {
		p.slab = append(p.slab, slots[i].Literal...)
		if !slots[i].Slot {
			break
		}
		if err := p.value(t, &slots[i], r.places[i], int(values[i*n]), row); err != nil {
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

// cluster adds what is in and around slots of row k. It is likely to come again where a
// dictionary has it.
func (p *pieces) cluster(t *taker, r *route, c *cluster, rows, own []uint32, k int, often bool) error {
	start := uint32(len(p.slab))
	p.slab = append(p.slab, c.before...)
	from := uint32(len(p.slab))
	for i := c.from; i < c.to; i++ {
		s := &r.plan.slots[i]
		if i > c.from {
			p.slab = append(p.slab, s.Literal...)
		}
		if err := p.value(t, s, r.places[i], int(own[(i-c.from)*len(rows)+k]), rows[k]); err != nil {
			return err
		}
	}
	to := uint32(len(p.slab))
	p.slab = append(p.slab, c.behind...)
	p.emit(c, start, from, to, often)
	return nil
}

// emit adds the cluster with slots from … to-1 that the slab ends with, unless it is that
// of the line before.
func (p *pieces) emit(c *cluster, start, from, to uint32, often bool) {
	end := uint32(len(p.slab))
	if end-start == c.end-c.last {
		a, b := p.slab[from:to], p.slab[c.last+from-start:][:to-from]
		i, k := grams.Differ(a, b)
		if i == k {
			p.slab = p.slab[:start]
			return
		}
		from, to = from+uint32(i), from+uint32(k)
	}
	piece := grams.Around(p.slab, start, end, from, to)
	c.last, c.end = start, end
	if to-from > maxPiece {
		p.list = grams.Chunks(p.list, p.slab, piece)
		return
	}
	piece.Often = often
	p.list = append(p.list, piece)
}
