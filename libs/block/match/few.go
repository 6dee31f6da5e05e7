package match

import (
	"math/bits"
	"slices"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// fewTemplates is for how many templates columns are searched one by one.
const fewTemplates = 4

// templatesLeft returns which templates the rows that are left have, and how many these
// are, if it is worth while to know; else nil: any.
func (e *evaluation) templatesLeft() (left []bool, n int) {
	if e.rows.Count() > e.info.Rows/4 {
		return nil, 0
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
	return left, n
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
		states := make([]state, len(e.info.Templates))
		for t, c := range e.info.Templates {
			if !templates[t] || may {
				continue
			}
			if may = f.template(block, c.Template) == all || f.asks(block, c.Template); !may {
				if err := e.alignments(f, c.Template, &states[t]); err != nil {
					return false, err
				}
				may = states[t].some()
			}
		}
		if !may {
			if err := e.slots(f, templates, states); err != nil {
				return false, err
			}
			may = slices.ContainsFunc(states, func(s state) bool { return s.some() })
		}
		if !may {
			return true, nil
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
