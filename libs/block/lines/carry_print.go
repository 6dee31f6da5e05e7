package lines

import "github.com/weir-logs/weir/libs/block/grams"

// fewOf is how many rows of a template a block has on average, so few that to print its
// lines for the gram matrix is less work than to find out what is new in each of them.
const fewOf = 8

// varied reports whether the block has few rows of each template.
func (t *taker) varied() bool { return len(t.tids) < fewOf*len(t.numbers) }

// printed is lines that are taken over and were printed, for their grams alone.
type printed struct {
	grams.Text
	free []*Printer // of blocks that are done with
}

// maxFree is how many printers are kept for blocks to come.
const maxFree = 8

// done keeps what a block was printed with.
func (p *printed) done(t *taker) {
	if t.printer != nil && len(p.free) < maxFree {
		t.printer.release() // or the block would stay
		p.free = append(p.free, t.printer)
	}
	t.printer = nil
}

func (p *printed) begin() {
	r := &p.Rows
	p.Slab, r.Ends, r.Shapes, r.Slots, r.Counts = p.Slab[:0], r.Ends[:0], r.Shapes[:0], r.Slots[:0], r.Counts[:0]
}

// lend makes a printer that of a block whose cursors move with the taker's.
func (t *taker) lend(p *Printer) error {
	t.body.mu.Lock()
	defer t.body.mu.Unlock()
	return t.body.lend(p, t.cursors)
}

// add adds rows of a block, from the one on that the cursors are at, which move. Their shapes are the templates that they have here.
func (p *printed) add(t *taker, from, to int) error {
	w := t.printer
	if w == nil {
		w = &Printer{}
		if n := len(p.free); n > 0 {
			w, p.free = p.free[n-1], p.free[:n-1]
		}
		if err := t.lend(w); err != nil {
			return err
		}
		w.noting = true
		t.printer = w
	}
	w.row = from
	r := &p.Rows
	w.slots = r.Slots
	limit := len(p.Slab) + t.body.info.Bytes
	for row := from; row < to; row++ {
		had := len(w.slots)
		var err error
		if p.Slab, err = w.append(p.Slab, limit, row); err != nil {
			return at(t.body.block, err)
		}
		shape := t.numbers[t.tids[row]]
		for len(r.Counts) <= int(shape) {
			r.Counts = append(r.Counts, 0)
		}
		r.Counts[shape] = int32(len(w.slots) - had)
		r.Shapes, r.Ends = append(r.Shapes, shape), append(r.Ends, uint32(len(p.Slab)))
	}
	r.Slots, w.slots, t.row = w.slots, nil, to
	return nil
}
