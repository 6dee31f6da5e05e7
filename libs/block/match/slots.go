package match

// slots finds the slots that hold all of a needle, for templates that are left, nil: all:
// column by column, as many templates share one.
func (e *evaluation) slots(f *sectionFilter, left []bool, states []state) error {
	for k := range f.terms {
		t := &f.terms[k]
		if t.dead(e.block) || !e.anySlots(t, left, states) {
			continue
		}
		for i := range t.needles {
			n := &t.needles[i]
			if !n.in(e.block) {
				continue
			}
			if err := e.slotsOf(t, n, left, states); err != nil {
				return err
			}
		}
	}
	return nil
}

// anySlots reports whether a slot of a template could hold a needle.
func (e *evaluation) anySlots(t *sectionTerm, left []bool, states []state) bool {
	for i, c := range e.info.Templates {
		if !states[i].all && (left == nil || left[i]) && t.plan(c.Template).slots {
			return true
		}
	}
	return false
}

func (e *evaluation) slotsOf(t *sectionTerm, n *sectionNeedle, left []bool, states []state) error {
	var used []bool
	columns := e.body.Columns()
	w := want{way: contains, text: n.text}
	var hits map[uint32]liveWant // by column of the section
	var list []int
	x, how := indexOf(e.sp.section), n.inSlots(e.block)
	for i := range columns {
		w.column = columns[i].ID
		if !n.columns[w.column] || how&x.slotOf(w.column, columns[i].MaxLen) == 0 || !e.possible(&w, n.fold) {
			continue
		}
		if left != nil {
			if used == nil {
				used = e.usedBy(left)
			}
			if !used[i] {
				continue
			}
		}
		list = append(list, i)
	}
	if err := e.searchApart(list); err != nil {
		return err
	}
	for _, i := range list {
		w.column = columns[i].ID
		values, err := e.scanColumn(i, &w, n.fold) // no other want is the same
		if err != nil {
			return err
		}
		if values == nil {
			continue
		}
		if hits == nil {
			hits = map[uint32]liveWant{}
		}
		hits[w.column] = liveWant{column: i, values: values}
	}
	if hits == nil {
		return nil
	}
	for i, c := range e.info.Templates {
		s := &states[i]
		if s.all || left != nil && !left[i] || n.how[c.Template]&inSlot == 0 || !t.plan(c.Template).slots {
			continue
		}
		m := &e.sp.section.Table.Templates[c.Template]
		for slot, id := range m.Columns {
			live, ok := hits[id]
			if !ok {
				continue
			}
			live.nth = x.nthOf(c.Template, slot)
			a := liveAlignment{wants: []liveWant{live}}
			if n.ask {
				a.term = t
			}
			s.live = append(s.live, a)
		}
	}
	return nil
}

// usedBy returns which columns templates of the block use.
func (e *evaluation) usedBy(templates []bool) []bool {
	used := make([]bool, len(e.body.Columns()))
	for i, c := range e.info.Templates {
		if templates[i] {
			for _, id := range e.sp.section.Table.Templates[c.Template].Columns {
				used[e.body.Number(id)] = true
			}
		}
	}
	return used
}
