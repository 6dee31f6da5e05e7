package match

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
)

// Rows sets dst to those of rows from … to-1 of a block that match; its numbers are
// those of the block's rows. b is the block, opened.
func (sp *SectionProgram) Rows(block int, b *lines.Body, from, to int, dst *Bitmap) error {
	return sp.RowsUntil(nil, block, b, from, to, dst)
}

// RowsUntil is Rows that asks stop, if it is not nil, again and again, and ends with
// its error once it has one.
func (sp *SectionProgram) RowsUntil(stop func() error, block int, b *lines.Body, from, to int, dst *Bitmap) error {
	info := b.Info()
	if from < 0 || from > to || to > info.Rows {
		return fmt.Errorf("no rows %d to %d of %d", from, to, info.Rows)
	}
	dst.Reset(info.Rows)
	dst.SetRange(from, to)
	return sp.narrow(stop, block, b, from, to, dst)
}

// Narrow takes out those of the rows of a block that do not match. stop is as in
// RowsUntil.
func (sp *SectionProgram) Narrow(stop func() error, block int, b *lines.Body, rows *Bitmap) error {
	if n := b.Info().Rows; rows.Len() != n {
		return fmt.Errorf("a set of %d rows for a block of %d", rows.Len(), n)
	}
	from, to, ok := rows.bounds()
	if !ok {
		return nil
	}
	return sp.narrow(stop, block, b, from, to, rows)
}

func (sp *SectionProgram) narrow(stop func() error, block int, b *lines.Body, from, to int, rows *Bitmap) error {
	e := newEvaluation()
	defer e.release()
	e.sp, e.block, e.body, e.info = sp, block, b, b.Info()
	e.from, e.to, e.rows, e.stop = from, to, rows, stop
	if sp.program.unpruned {
		return e.matchEach(sp.program.Match, nil)
	}
	for i := range sp.filters {
		f := &sp.filters[i]
		n := rows.Count()
		if n == 0 {
			return nil
		}
		switch f.verdict(sp.section, block) {
		case all:
			continue
		case none:
			rows.Reset(rows.Len())
			return nil
		}
		if n <= fewRows && n <= rows.Len()/64 {
			return e.matchFew(sp.program.filters[i:])
		}
		if err := e.filter(f, &sp.program.filters[i]); err != nil {
			return err
		}
	}
	return nil
}

// evaluation is a program on a block: rows are those that match what was evaluated so
// far.
type evaluation struct {
	sp       *SectionProgram
	block    int
	body     *lines.Body
	info     *lines.BlockInfo
	from, to int
	rows     *Bitmap
	stop     func() error // nil: nothing stops it
	lines    int          // that were matched

	few     bool // columns are searched for few templates
	tids    []uint16
	scanned map[scanKey]found
	last    []scanned // by column
	wants   []liveWant
	frames  map[frameKey]bool
	number  uint64            // of those that ask the body of frames; 0: it has not asked
	rowsOf  [][]uint32        // rows of the values of columns of in-line times; nil: not known yet
	begins  map[uint32][]byte // what all in-line times of a column begin with
	states  []state           // of the templates; free for the next filter
	rows32  []uint32          // memory of rowsOf
	aligned []int             // memory of filter
	apart   []int             // by frame: how much of it columns take that are searched one by one; 0: not these
	digits  digitProbe        // used last
	scratch []byte
	folded  []byte
}

var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

func newEvaluation() *evaluation { return evaluations.Get().(*evaluation) }

// release leaves the memory of an evaluation that has ended to others, and nothing else.
func (e *evaluation) release() {
	clear(e.last)
	clear(e.states)
	clear(e.wants[:cap(e.wants)])
	*e = evaluation{digits: e.digits, apart: e.apart[:0], aligned: e.aligned[:0], rows32: e.rows32[:0], last: e.last[:0], states: e.states[:0], wants: e.wants[:0], scratch: e.scratch[:0], folded: e.folded[:0]}
	if cap(e.folded) > maxKept {
		e.folded = nil
	}
	evaluations.Put(e)
}

// maxKept is how much memory for text is left to other evaluations.
const maxKept = 1 << 20

// matchesAtOnce is how many lines are matched before the evaluation may be stopped: an
// expression may take a millisecond for each.
const matchesAtOnce = 32

// stopped counts a line that is to be matched.
func (e *evaluation) stopped() error {
	if e.lines++; e.lines%matchesAtOnce == 0 && e.stop != nil {
		return e.stop()
	}
	return nil
}

// state is what a filter means for the rows of one template of the block.
type state struct {
	all  bool
	asks []*sectionTerm  // terms that every row must be asked for
	live []liveAlignment // alignments that some rows meet
}

type liveAlignment struct {
	term  *sectionTerm // to ask rows for; nil: they match
	wants []liveWant
}

type liveWant struct {
	column, nth int
	values      found
}

func (s *state) some() bool { return s.all || len(s.asks) > 0 || len(s.live) > 0 }

// filter takes out the rows that a filter does not match.
func (e *evaluation) filter(f *sectionFilter, plain *filter) error {
	left, n, err := e.templatesLeft()
	if err != nil {
		return err
	}
	states := e.freshStates()
	e.few = left != nil && n <= fewTemplates
	alive := make([]*sectionTerm, 0, 4)
	for k := range f.terms {
		if t := &f.terms[k]; !t.dead(e.block) {
			alive = append(alive, t)
		}
	}
	asked := 0
	aligned := e.aligned[:0] // templates with alignments
	for i, c := range e.info.Templates {
		if left != nil && !left[i] {
			continue
		}
		for _, t := range alive {
			p := t.plan(c.Template)
			if p == planNone || p == planSlot {
				continue
			}
			s := &states[i]
			if p.all {
				*s = state{all: true}
				break
			}
			if p.ask {
				s.asks = append(s.asks, t)
			}
			if len(p.aligns) > 0 && (len(aligned) == 0 || aligned[len(aligned)-1] != i) {
				aligned = append(aligned, i)
			}
		}
		if len(states[i].asks) > 0 {
			asked += int(c.Rows)
		}
	}
	if asked*2 > e.info.Rows {
		// Columns would be searched in vain: most lines are needed anyway.
		return e.matchEach(plain.match, func(t uint16) verdict {
			v := f.template(e.block, e.info.Templates[t].Template)
			if f.negate {
				return v.not()
			}
			return v
		})
	}
	e.aligned = aligned
	for _, i := range aligned {
		if !states[i].all {
			if err := e.alignments(f, e.info.Templates[i].Template, &states[i]); err != nil {
				return err
			}
		}
	}
	if err := e.slots(f, left, states); err != nil {
		return err
	}
	return e.walk(f, states)
}

// freshStates returns states of the block's templates that say nothing.
func (e *evaluation) freshStates() []state {
	n := len(e.info.Templates)
	clear(e.states)
	if cap(e.states) < n {
		e.states = make([]state, n+n/4)
	}
	e.states = e.states[:n]
	return e.states
}

// rowTemplates reads which templates the rows have.
func (e *evaluation) rowTemplates() (err error) {
	if e.tids == nil {
		e.tids, err = e.body.RowTemplates()
	}
	return err
}

// alignments finds the alignments of a template that any values meet.
func (e *evaluation) alignments(f *sectionFilter, number uint32, s *state) error {
	for k := range f.terms {
		t := &f.terms[k]
		if t.dead(e.block) {
			continue
		}
		p := t.plan(number)
	next:
		for i := range p.aligns {
			a := &p.aligns[i]
			n := &t.needles[a.needle]
			if !n.meets(e.block, a) {
				continue
			}
			if len(a.wants) > 1 {
				for j := range a.wants {
					if !e.possible(&a.wants[j], n.fold) {
						continue next
					}
				}
			}
			e.wants = e.wants[:0]
			for j := range a.wants {
				w := &a.wants[j]
				c := e.body.Number(w.column)
				values, err := e.lastScan(c, w, n.fold)
				if err != nil {
					return err
				}
				if values == nil {
					continue next
				}
				e.wants = append(e.wants, liveWant{c, w.nth, values})
			}
			l := liveAlignment{wants: slices.Clone(e.wants)}
			if n.ask {
				l.term = t
			}
			s.live = append(s.live, l)
		}
	}
	return nil
}

// lastScan is scan, and possible. Many templates have the same want of a column, one
// after the other.
func (e *evaluation) lastScan(c int, w *want, fold bool) (found, error) {
	if n := len(e.body.Columns()); len(e.last) != n {
		if cap(e.last) < n {
			e.last = make([]scanned, n+n/4)
		}
		e.last = e.last[:n] // clear since it was released
	}
	l := &e.last[c]
	text := unsafe.SliceData(w.text)
	if l.text == text && l.n == len(w.text) && l.way == w.way && l.fold == fold {
		return l.found, nil
	}
	var f found
	if e.possible(w, fold) {
		var err error
		if f, err = e.scan(c, w, fold); err != nil {
			return nil, err
		}
	}
	*l = scanned{text, len(w.text), w.way, fold, f}
	return f, nil
}

// scanned is what was found last in a column.
type scanned struct {
	text  *byte // a text never moves
	n     int
	way   way
	fold  bool
	found found
}

// possible tests a want by the summary of the block's column.
func (e *evaluation) possible(w *want, fold bool) bool {
	c := &e.body.Columns()[e.body.Number(w.column)]
	if c.Kind == column.Signed {
		return fitsAfter(e.timesBegin(c), e.sp.section.Table.Columns[c.ID].Layout, w.way, w.text, fold)
	}
	if c.Kind == column.Const {
		return holds(c.Prefix, w.way, &needle{text: w.text, fold: fold})
	}
	s := c.Summary()
	return possible(&s, w.way, w.text, fold) && (w.way != contains || holdsDigits(c, w.text)) && !tooLongFor(c, w.text) && fitsPrefix(c, w.text, fold)
}

// walk goes through the rows once, with a cursor in every column that was searched.
func (e *evaluation) walk(f *sectionFilter, states []state) error {
	if !f.negate && !slices.ContainsFunc(states, func(s state) bool { return s.all || len(s.asks)+len(s.live) > 0 }) {
		e.rows.Reset(e.info.Rows)
		return nil
	}
	columns := e.body.Columns()
	used := make([]bool, len(columns))
	asks := make([]bool, len(states))
	any, anyAsk, anyAll := false, false, false
	for i := range states {
		s := &states[i]
		anyAll = anyAll || s.all
		asks[i] = len(s.asks) > 0
		for k := range s.live {
			asks[i] = asks[i] || s.live[k].term != nil
			for _, w := range s.live[k].wants {
				used[w.column], any = true, true
			}
		}
		anyAsk = anyAsk || asks[i]
	}
	if !any && !anyAsk {
		if !anyAll {
			if !f.negate {
				e.rows.Reset(e.info.Rows)
			}
			return nil
		}
		if err := e.rowTemplates(); err != nil {
			return err
		}
		if v := states[0].all; !slices.ContainsFunc(states, func(s state) bool { return s.all != v }) {
			if v == f.negate {
				e.rows.Reset(e.info.Rows)
			}
			return nil
		}
		for r := e.from; r < e.to; r++ {
			if states[e.tids[r]].all == f.negate {
				e.rows.words[r>>6] &^= 1 << (r & 63)
			}
		}
		return nil
	}
	if err := e.rowTemplates(); err != nil {
		return err
	}
	steps := e.steps(used)
	cursors := make([]int, len(columns))
	for _, t := range e.tids[:e.from] {
		for _, s := range steps[t] {
			cursors[s.column] += s.n
		}
	}
	var asker asker
	if anyAsk {
		p, err := e.body.Printer()
		if err != nil {
			return err
		}
		p.Only(asks)
		asker.printer = p
	}
	for r := e.from; r < e.to; r++ {
		t := e.tids[r]
		s := &states[t]
		if s.some() && e.rows.Has(r) {
			if err := e.stopped(); err != nil {
				return err
			}
			hit := s.all
			for k := 0; k < len(s.live) && !hit; k++ {
				if a := &s.live[k]; a.met(cursors) {
					hit = a.term == nil
					if !hit {
						var err error
						if hit, err = asker.ask(a.term, r); err != nil {
							return err
						}
					}
				}
			}
			for k := 0; k < len(s.asks) && !hit; k++ {
				var err error
				if hit, err = asker.ask(s.asks[k], r); err != nil {
					return err
				}
			}
			if hit == f.negate {
				e.rows.words[r>>6] &^= 1 << (r & 63)
			}
		} else if !f.negate {
			e.rows.words[r>>6] &^= 1 << (r & 63)
		}
		for _, s := range steps[t] {
			cursors[s.column] += s.n
		}
	}
	return nil
}

func (a *liveAlignment) met(cursors []int) bool {
	for i := range a.wants {
		w := &a.wants[i]
		if !w.values.has(cursors[w.column] + w.nth) {
			return false
		}
	}
	return true
}

type step struct{ column, n int }

// steps returns how far a row of each template moves the cursors.
func (e *evaluation) steps(used []bool) [][]step {
	out := make([][]step, len(e.info.Templates))
	for i, c := range e.info.Templates {
	columns:
		for _, id := range e.sp.section.Table.Templates[c.Template].Columns {
			n := e.body.Number(id)
			if !used[n] {
				continue
			}
			for k := range out[i] {
				if out[i][k].column == n {
					out[i][k].n++
					continue columns
				}
			}
			out[i] = append(out[i], step{n, 1})
		}
	}
	return out
}

// asker rebuilds lines to ask terms of them.
type asker struct {
	printer *lines.Printer
	line    []byte
	row     int
	valid   bool
	last    *sectionTerm // asked for this row, in vain
}

func (a *asker) ask(t *sectionTerm, row int) (bool, error) {
	if !a.valid || a.row != row {
		var err error
		if a.line, err = a.printer.Append(a.line[:0], row); err != nil {
			return false, err
		}
		a.row, a.valid, a.last = row, true, nil
	}
	if a.last == t {
		return false, nil
	}
	a.last = t
	if t.re == nil { // a text that can lie over slots in too many ways
		return t.match(a.line), nil
	}
	return t.re.Match(a.line), nil
}

// matchEach leaves the rows whose lines match; known tells it of templates, if it is
// not nil.
func (e *evaluation) matchEach(match func([]byte) bool, known func(t uint16) verdict) error {
	p, err := e.body.Printer()
	if err != nil {
		return err
	}
	if err := e.rowTemplates(); err != nil {
		return err
	}
	verdicts := make([]verdict, len(e.info.Templates))
	if known != nil {
		asks := make([]bool, len(verdicts))
		for t := range verdicts {
			verdicts[t] = known(uint16(t))
			asks[t] = verdicts[t] == some
		}
		p.Only(asks)
	}
	var line []byte
	for r := e.from; r < e.to; r++ {
		if !e.rows.Has(r) {
			continue
		}
		v := verdicts[e.tids[r]]
		if v == some {
			if err := e.stopped(); err != nil {
				return err
			}
			if line, err = p.Append(line[:0], r); err != nil {
				return err
			}
			v = none
			if match(line) {
				v = all
			}
		}
		if v == none {
			e.rows.words[r>>6] &^= 1 << (r & 63)
		}
	}
	return nil
}
