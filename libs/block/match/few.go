package match

import (
	"math/bits"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// fewTemplates is for how many templates columns are searched one by one.
const fewTemplates = 4

// templatesLeft returns which templates the rows that are left have, and how many these
// are, if it is worth while to know; else nil: any.
func (e *evaluation) templatesLeft() (left []bool, n int, err error) {
	if e.rows.Count() > e.info.Rows/4 {
		return nil, 0, nil
	}
	if err := e.rowTemplates(); err != nil {
		return nil, 0, err
	}
	left = make([]bool, len(e.info.Templates))
	for i, w := range e.rows.words {
		for ; w != 0; w &= w - 1 {
			if t := e.tids[i<<6+bits.TrailingZeros64(w)]; !left[t] {
				left[t] = true
				n++
			}
		}
	}
	return left, n, nil
}

// Lacks reports whether no row that has one of some templates, by their places in the
// block's info, matches. It errs on the side of false.
func (sp *SectionProgram) Lacks(block int, b *lines.Body, templates []bool) (bool, error) {
	if sp.program.unpruned {
		return false, nil
	}
	e := evaluation{sp: sp, block: block, body: b, info: b.Info(), few: true}
	for i := range sp.filters {
		f := &sp.filters[i]
		if f.negate {
			continue
		}
		may := false
		for t, c := range e.info.Templates {
			if !templates[t] {
				continue
			}
			var err error
			if may, err = e.mayMatch(f, c.Template); err != nil {
				return false, err
			}
			if may {
				break
			}
		}
		if !may {
			return true, nil
		}
	}
	return false, nil
}

// mayMatch reports whether lines of a template of the block may match a filter, which is
// not negated.
func (e *evaluation) mayMatch(f *sectionFilter, number uint32) (bool, error) {
	if f.template(e.block, number) == all || f.asks(e.block, number) {
		return true, nil
	}
	var s state
	if err := e.alignments(f, number, &s); err != nil || s.some() {
		return err == nil, err
	}
	for k := range f.terms {
		t := &f.terms[k]
		if t.dead(e.block) || !t.plan(number).slots {
			continue
		}
		for i := range t.needles {
			n := &t.needles[i]
			if !n.in(e.block) || n.how == nil || n.how[number]&n.inSlots(e.block) == 0 {
				continue
			}
			w := want{way: contains, text: n.text}
			for _, w.column = range e.sp.section.Table.Templates[number].Columns {
				if !n.columns[w.column] || !e.possible(&w, n.fold) {
					continue
				}
				if values, err := e.scan(e.body.Number(w.column), &w, n.fold); err != nil || values != nil {
					return err == nil, err
				}
			}
		}
	}
	return false, nil
}

// fewRows is how many lines are rebuilt rather than columns searched for them.
const fewRows = 16

// matchFew leaves the rows, of which there are few, whose lines match filters.
func (e *evaluation) matchFew(filters []filter) error {
	numbers := e.rows.AppendRows(make([]uint32, 0, fewRows))
	var lines model.Rows
	if err := e.body.Select(numbers, &lines); err != nil {
		return err
	}
	for i, row := range numbers {
		for k := range filters {
			if !filters[k].match(lines.Lines.At(i)) {
				e.rows.Clear(int(row))
				break
			}
		}
	}
	return nil
}
