package match

import "github.com/weir-logs/weir/libs/block/lines"

// verdict is what is known of a filter, or program, and a block without its body.
type verdict uint8

const (
	some verdict = iota // rows may match
	none
	all
)

func (v verdict) not() verdict {
	switch v {
	case none:
		return all
	case all:
		return none
	}
	return some
}

func (f *sectionFilter) verdict(s *lines.Section, block int) verdict {
	v := f.positive(s, block)
	if f.negate {
		return v.not()
	}
	return v
}

// alive reports whether any term may match lines of a block, as the grams tell.
func (f *sectionFilter) alive(block int) bool {
	for i := range f.terms {
		if !f.terms[i].dead(block) {
			return true
		}
	}
	return false
}

// positive is the verdict on lines that match any of the terms.
func (f *sectionFilter) positive(s *lines.Section, block int) verdict {
	if !f.alive(block) {
		return none
	}
	hits, misses := false, false
	for _, c := range s.Blocks[block].Templates {
		switch f.template(block, c.Template) {
		case all:
			hits = true
		case none:
			misses = true
		default:
			return some
		}
		if hits && misses {
			return some
		}
	}
	if hits {
		return all
	}
	return none
}

func (f *sectionFilter) template(block int, number uint32) verdict {
	v := none
	for i := range f.terms {
		t := &f.terms[i]
		if t.dead(block) {
			continue
		}
		p := t.plan(number)
		switch {
		case p.all:
			return all
		case p.ask, p.slots && t.inSlot(block, number):
			v = some
		}
		for k := range p.aligns {
			if a := &p.aligns[k]; t.needles[a.needle].meets(block, a) {
				v = some
				break
			}
		}
	}
	return v
}

// inSlot reports whether a slot of a template's lines in a block could hold a needle.
func (t *sectionTerm) inSlot(block int, number uint32) bool {
	for i := range t.needles {
		if n := &t.needles[i]; n.how != nil && n.how[number]&n.inSlots(block) != 0 {
			return true
		}
	}
	return false
}

// asks reports whether lines of a template must be looked at.
func (f *sectionFilter) asks(block int, number uint32) bool {
	for i := range f.terms {
		if t := &f.terms[i]; !t.dead(block) && t.plan(number).ask {
			return true
		}
	}
	return false
}

func (sp *SectionProgram) verdict(block int) verdict {
	if sp.program.unpruned {
		return some
	}
	v := all
	for i := range sp.filters {
		switch sp.filters[i].verdict(sp.section, block) {
		case none:
			return none
		case some:
			v = some
		}
	}
	return v
}

// Skip reports whether it is certain, without the block's body, that no row of a
// block matches.
func (sp *SectionProgram) Skip(block int) bool { return sp.verdict(block) == none }

// All reports whether it is certain, without the block's body, that every row of a
// block matches.
func (sp *SectionProgram) All(block int) bool { return sp.verdict(block) == all }

// Count returns how many rows of a block match, if it is certain without the block's body:
// each of its templates tells it of all of its lines.
func (sp *SectionProgram) Count(block int) (rows int, certain bool) {
	if sp.program.unpruned {
		return 0, false
	}
	info := &sp.section.Blocks[block]
	for i := range sp.filters {
		if f := &sp.filters[i]; !f.negate && !f.alive(block) {
			return 0, true
		}
	}
	for _, c := range info.Templates {
		v := all
		for i := 0; i < len(sp.filters) && v != none; i++ {
			f := &sp.filters[i]
			of := f.template(block, c.Template)
			if f.negate {
				of = of.not()
			}
			if of != all {
				v = of
			}
		}
		switch v {
		case some:
			return 0, false
		case all:
			rows += int(c.Rows)
		}
	}
	return rows, true
}
