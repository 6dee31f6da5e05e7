package match

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lazy"
	"github.com/weir-logs/weir/libs/block/lines"
)

// SectionProgram is a program made ready for the blocks of one section. What it works
// out of the section's templates it keeps, so it is best kept as long as the section.
type SectionProgram struct {
	program *Program
	section *lines.Section
	filters []sectionFilter
	memory  atomic.Int64
}

type sectionFilter struct {
	terms  []sectionTerm
	negate bool
}

type sectionTerm struct {
	*term
	section *lines.Section
	memory  *atomic.Int64 // of the program
	needles []sectionNeedle
	also    [][]sectionNeedle

	once  lazy.Once
	plans []atomic.Pointer[plan] // of each template, when it is known; made when one is asked for
}

type sectionNeedle struct {
	*needle
	may    grams.Set    // blocks that may hold it
	within [2]grams.Set // those that may in lines whose runs of digits are short, or mid at most
	all    bool         // every block may

	once    lazy.Once
	how     []byte   // how each template comes into question
	columns []bool   // that could hold all of it
	grams   []int    // where in it those grams are that values may be asked for
	lacks   []uint32 // by block: bits of grams that no value has; nil: there are none
}

// plan is what a term means for the lines of a template.
type plan struct {
	all    bool        // every line matches
	ask    bool        // every line must be looked at
	aligns []alignment // else: a line matches, or must be asked, if it meets one of these
	slots  bool        // or has all of a needle in a slot that could hold it
}

var (
	planAll  = &plan{all: true}
	planAsk  = &plan{ask: true}
	planNone = &plan{}
	planSlot = &plan{slots: true}
)

// Section makes the program ready for a section. g is the section's gram matrix, nil
// if there is none.
func (p *Program) Section(s *lines.Section, g *grams.Region) *SectionProgram {
	sp := &SectionProgram{program: p, section: s, filters: make([]sectionFilter, len(p.filters))}
	if p.unpruned {
		return sp
	}
	if g != nil && g.Blocks() != len(s.Blocks) {
		g = nil // not this section's
	}
	var nonASCII grams.Set
	if g != nil {
		nonASCII = g.NonASCII()
	}
	for i := range p.filters {
		f := &sp.filters[i]
		f.negate = p.filters[i].negate
		f.terms = make([]sectionTerm, len(p.filters[i].terms))
		for k := range f.terms {
			t := &f.terms[k]
			t.term, t.section, t.memory = &p.filters[i].terms[k], s, &sp.memory
			t.needles = sectionNeedles(t.term.needles, g, nonASCII)
			needles := len(t.needles)
			if g != nil {
				for i := range t.needles {
					t.needles[i].inRuns(g)
				}
			}
			for _, set := range t.term.also {
				t.also = append(t.also, sectionNeedles(set, g, nonASCII))
				needles += len(set)
			}
			sp.memory.Add(int64(256 + 8*len(s.Table.Templates) + needles*(128+len(s.Table.Templates)+len(s.Table.Columns)+5*len(s.Blocks))))
		}
	}
	return sp
}

// May returns which blocks of a section may have lines that the program matches, as far as
// the section's gram matrix tells: it needs nothing else of the section. nil: any may.
func (p *Program) May(g *grams.Region) grams.Set {
	if p.unpruned || g == nil {
		return nil
	}
	var out grams.Set
	nonASCII := g.NonASCII()
	for i := range p.filters {
		if p.filters[i].negate {
			continue
		}
		may := grams.Set{}
		for k := range p.filters[i].terms {
			t := &p.filters[i].terms[k]
			if t.always || t.unknown {
				may = nil
				break
			}
			set := anyOf(t.needles, g, nonASCII)
			for _, also := range t.also {
				set.And(anyOf(also, g, nonASCII))
			}
			if len(may) == 0 {
				may = set
			} else {
				may.Or(set)
			}
		}
		switch {
		case may == nil:
		case out == nil:
			out = may
		default:
			out.And(may)
		}
	}
	return out
}

// anyOf returns the blocks that may hold one of some needles.
func anyOf(needles []needle, g *grams.Region, nonASCII grams.Set) grams.Set {
	out := make(grams.Set, (g.Blocks()+63)/64)
	found := sectionNeedles(needles, g, nonASCII)
	for i := range found {
		out.Or(found[i].may)
	}
	return out
}

// MemorySize returns about how many bytes of memory the program takes, the section not
// included. It grows as templates are looked at.
func (sp *SectionProgram) MemorySize() int { return 128 + int(sp.memory.Load()) }

func sectionNeedles(needles []needle, g *grams.Region, nonASCII grams.Set) []sectionNeedle {
	out := make([]sectionNeedle, len(needles))
	for i := range out {
		n := &out[i]
		n.needle = &needles[i]
		if g == nil {
			n.all = true
			continue
		}
		n.may = g.Needle(n.text, n.fold)
		if !ascii(n.text) {
			n.may.And(nonASCII)
		}
	}
	return out
}

// inRuns works out what the grams tell of shorter runs of digits.
func (n *sectionNeedle) inRuns(g *grams.Region) {
	n.within = [2]grams.Set{n.may, n.may}
	if n.may.Empty() || !grams.OpenRuns(n.text) {
		return
	}
	for i, run := range [...]int{grams.ShortRun, grams.MidRun} {
		n.within[i] = g.NeedleIn(n.text, n.fold, run)
		n.within[i].And(n.may)
	}
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func (n *sectionNeedle) in(block int) bool { return n.all || n.may.Has(block) }

// inSlots returns in what slots of a block the needle may be.
func (n *sectionNeedle) inSlots(block int) (how byte) {
	switch {
	case n.lacking(block, ^uint32(0)):
		return inTimeSlot
	case n.all || n.within[0].Has(block):
		return inSlot
	case n.within[1].Has(block):
		return inMidSlot | inLongSlot
	case n.may.Has(block):
		return inLongSlot
	}
	return 0
}

// dead reports whether no line of a block matches the term, as the grams tell.
func (t *sectionTerm) dead(block int) bool {
	if t.always || t.unknown {
		return false
	}
	for _, set := range t.also {
		if !anyIn(set, block) {
			return true
		}
	}
	return !anyIn(t.needles, block)
}

func anyIn(set []sectionNeedle, block int) bool {
	for i := range set {
		if set[i].in(block) {
			return true
		}
	}
	return false
}

// lacks reports whether no line of a template holds any of the needles.
func (t *sectionTerm) lacks(set []sectionNeedle, number uint32) bool {
	for i := range set {
		n := &set[i]
		if n.prepare(t.section); n.how != nil && n.how[number] != 0 {
			return false
		}
	}
	return true
}

// prepare works out which templates and columns could hold the needle.
func (n *sectionNeedle) prepare(s *lines.Section) {
	n.once.Do(func() {
		x := indexOf(s)
		n.how = x.candidates(n.needle)
		n.columns = make([]bool, len(s.Table.Columns))
		for c := range x.possibleColumns(n.needle) {
			n.columns[c] = true
			how := x.slotOf(c, x.mostIn(c))
			for _, t := range x.columns.of(int(c)) {
				if n.how == nil {
					n.how = make([]byte, len(s.Table.Templates))
				}
				n.how[t] |= how
			}
		}
		n.findLacking(s)
	})
}

// plan returns what the term means for a template of the section.
func (t *sectionTerm) plan(number uint32) *plan {
	if t.plain() {
		n := &t.needles[0]
		if n.prepare(t.section); n.how == nil || n.how[number] == 0 {
			return planNone
		} else if n.how[number]&(inLiteral|acrossSlots) == 0 {
			return planSlot
		}
	}
	t.once.Do(func() { t.plans = make([]atomic.Pointer[plan], len(t.section.Table.Templates)) })
	p := t.plans[number].Load()
	if p == nil {
		p = t.makePlan(number)
		size := 0
		for i := range p.aligns {
			size += 64 + 48*len(p.aligns[i].wants)
		}
		if size > 0 {
			t.memory.Add(int64(64 + size))
		}
		t.plans[number].Store(p)
	}
	return p
}

// plain reports whether the term is that lines hold one needle.
func (t *sectionTerm) plain() bool {
	return t.re == nil && len(t.needles) == 1 && len(t.also) == 0 && !t.always && !t.unknown
}

func (t *sectionTerm) makePlan(number uint32) *plan {
	m := &t.section.Table.Templates[number]
	switch {
	case t.always:
		return planAll
	case t.safe && t.re != nil && !m.IsRaw() && t.inLiteral(number) && t.re.Match(m.Text):
		return planAll
	case t.unknown:
		return planAsk
	}
	for _, set := range t.also {
		if t.lacks(set, number) {
			return planNone
		}
	}
	var p plan
	ask := false
	for i := range t.needles {
		n := &t.needles[i]
		n.prepare(t.section)
		how := byte(0)
		if n.how != nil {
			how = n.how[number]
		}
		switch {
		case how == 0:
		case how&inLiteral != 0 && !n.ask:
			return planAll
		case how&inLiteral != 0:
			ask = true
		default:
			p.slots = p.slots || how&inSlot != 0
			if how&acrossSlots != 0 && !t.align(&p, i, number) {
				ask = true
			}
		}
	}
	switch {
	case ask:
		return planAsk
	case len(p.aligns) > 0:
		made := p
		return &made
	case p.slots:
		return planSlot
	}
	return planNone
}

// inLiteral reports whether the text of a template holds a needle, as all text that the
// expression matches does: it is much faster than the expression.
func (t *sectionTerm) inLiteral(number uint32) bool {
	for i := range t.needles {
		n := &t.needles[i]
		if n.prepare(t.section); n.how != nil && n.how[number]&inLiteral != 0 {
			return true
		}
	}
	return t.unknown
}

// align adds the alignments of a needle with slots and text of a template; it fails if
// there are too many.
func (t *sectionTerm) align(p *plan, needle int, number uint32) bool {
	n := &t.needles[needle]
	l := slotLists.Get().(*slotList)
	defer slotLists.Put(l)
	x := indexOf(t.section)
	l.set(x, number)
	list, ok := align(n.needle, l.slots, l.last, func(s *slot, w way, part []byte) bool {
		return x.possible(s.column, w, part, n.fold)
	})
	if !ok {
		return false
	}
	for _, wants := range list {
		t.order(wants)
		grams := uint32(0)
		for i := range wants {
			if w := &wants[i]; !t.section.Table.Columns[w.column].IsTime {
				grams |= n.gramsOf(w.at, w.at+len(w.text))
			}
		}
		p.aligns = append(p.aligns, alignment{needle, wants, grams})
	}
	return true
}

// order puts first the wants that the fewest values are likely to meet, and those that
// take the longest to find last.
func (t *sectionTerm) order(wants []want) {
	slices.SortStableFunc(wants, func(a, b want) int {
		return cmp.Or(t.slow(&a)-t.slow(&b), len(b.text)-len(a.text))
	})
}

func (t *sectionTerm) slow(w *want) int {
	if t.section.Table.Columns[w.column].IsTime {
		return 1
	}
	return 0
}
