package blockstore

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// What a parser makes of a field that is one slot of a template is the slot's value: rows
// that have a value there are found in one column, whatever else is in their lines.

// parsedPlan tells, for the templates of a row group, where the value of a field is.
type parsedPlan struct {
	templates []parsedField
	columns   []int // of slots
	steps     [][]fieldStep
	unknown   []bool // templates that are
	some, all bool   // of them are
	consts    bool   // some templates have the same value in all lines
	size      int    // in memory
}

// parsedField is where the value of a field is in the lines of a template.
type parsedField struct {
	kind   parsedKind
	column int32 // its place in columns
	nth    int32 // of the template's slots of the column
	text   string
}

type parsedKind uint8

const (
	parsedUnknown parsedKind = iota
	parsedNowhere            // the lines have no such field
	parsedConst              // it is the same in all lines
	parsedSlot
)

// MemorySize implements part.
func (p *parsedPlan) MemorySize() int { return p.size }

// measure sets size.
func (p *parsedPlan) measure() {
	p.size = 128 + 8*len(p.columns) + 65*len(p.templates)
	for i := range p.templates {
		p.size += len(p.templates[i].text)
	}
	for _, s := range p.steps {
		p.size += 8 * len(s)
	}
}

func (s *selected) parsedPlan(group int, body *lines.Body, f *engine.FieldEquals, text string) (*parsedPlan, error) {
	k := key{block: s.store.block, kind: kindFields, n: group, text: text}
	return get(s.ctx, s.store.cache, k, func() (*parsedPlan, error) {
		number, _ := s.store.block.Place(group)
		sec, err := s.store.section(s.ctx, number)
		if err != nil {
			return nil, err
		}
		return planParsed(sec, body, f, s.analysesOf(number, sec, f.Fields))
	})
}

func planParsed(sec *block.Section, body *lines.Body, f *engine.FieldEquals, known *analyses) (*parsedPlan, error) {
	info := body.Info()
	p := &parsedPlan{templates: make([]parsedField, len(info.Templates)), steps: make([][]fieldStep, len(info.Templates))}
	uses := usesKnown{body: body}
	known.prepare(info.Templates)
	place := make([]int32, len(body.Columns())) // in columns, plus 1
	for i := range p.templates {
		t, a := &p.templates[i], known.at(int(info.Templates[i].Template))
		if a.class == nil {
			continue
		}
		if ok, err := uses.allow(a.checks); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		p.place(t, &a.class.notedFields, f, body, place)
	}
	p.unknown, p.all = make([]bool, len(p.templates)), true
	for i := range p.templates {
		kind := p.templates[i].kind
		p.unknown[i] = kind == parsedUnknown
		p.some, p.all = p.some || p.unknown[i], p.all && p.unknown[i]
		p.consts = p.consts || kind == parsedConst
		for _, id := range sec.Table.Templates[info.Templates[i].Template].Columns {
			if c := place[body.Number(id)]; c > 0 {
				p.steps[i] = addStep(p.steps[i], c-1)
			}
		}
	}
	p.measure()
	return p, nil
}

// place finds where the value of the field is in lines with fields.
func (p *parsedPlan) place(t *parsedField, a *notedFields, f *engine.FieldEquals, body *lines.Body, place []int32) {
	if len(a.noted) == 0 {
		t.kind = parsedNowhere
		return
	}
	n := a.noted[0]
	if len(a.noted) > 1 || a.nested || n.name != f.Name {
		return
	}
	raw := a.text[n.from:n.to]
	if len(raw) >= 2 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	} else if f.Fields.JSON && string(raw) != string(rune(hole)) {
		return // true, null, a number, an object
	}
	switch {
	case bytes.IndexByte(raw, '\\') >= 0:
	case len(raw) == 1 && raw[0] == hole:
		c := body.Number(a.columns[n.slot])
		if place[c] == 0 {
			p.columns = append(p.columns, c)
			place[c] = int32(len(p.columns))
		}
		t.kind, t.column, t.nth = parsedSlot, place[c]-1, int32(a.nth(n.slot))
	case bytes.IndexByte(raw, hole) < 0:
		t.kind, t.text = parsedConst, string(raw)
	}
}

// addStep counts one more value of a column.
func addStep(steps []fieldStep, column int32) []fieldStep {
	for k := range steps {
		if steps[k].column == column {
			steps[k].n++
			return steps
		}
	}
	return append(steps, fieldStep{column, 1})
}

// parsedText tells plans of fields apart.
func parsedText(f *engine.FieldEquals) string {
	return fmt.Sprintf("=%v%q%q%q", f.Fields.JSON, f.Name, f.Fields.Names, f.Fields.Paths)
}

// fieldRows is which rows of a row group may have a field of a value.
type fieldRows struct {
	plan *parsedPlan
	all  []bool  // templates of which any row may
	some bool    // there are such
	hits [][]int // values of the plan's columns that are it; nil: none is
}

// findFields finds the fields that are wanted in the columns of a row group. program is
// what is wanted of the lines besides, if it is not nil. none: no row has them all.
func (s *selected) findFields(group int, body *lines.Body, meta *block.Metadata, program *match.SectionProgram) (out []fieldRows, none bool, err error) {
	for i := range s.need.Parsed {
		f := &s.need.Parsed[i]
		if meta.Has(f.Unless) {
			continue
		}
		plan, err := s.parsedPlan(group, body, f, s.texts[i])
		if err != nil {
			return nil, false, err
		}
		if plan.all {
			continue
		}
		rows, err := plan.find(body, f.Value)
		if err != nil {
			return nil, false, err
		}
		if rows.some && rows.hits == nil && program != nil {
			_, index := s.store.block.Place(group)
			lacks, err := program.Lacks(index, body, rows.all)
			if err != nil {
				return nil, false, err
			}
			rows.some = !lacks
		}
		if !rows.some && rows.hits == nil {
			return nil, true, nil
		}
		out = append(out, rows)
	}
	return out, false, nil
}

// find finds a value in the columns.
func (p *parsedPlan) find(body *lines.Body, value string) (fieldRows, error) {
	rows := fieldRows{plan: p, all: p.unknown, some: p.some}
	for i, c := range p.columns {
		hit := func(n int) {
			if rows.hits == nil {
				rows.hits = make([][]int, len(p.columns))
			}
			rows.hits[i] = append(rows.hits[i], n)
		}
		if err := body.Find(c, []byte(value), hit); err != nil {
			return rows, err
		}
	}
	if p.consts {
		rows.all = slices.Clone(rows.all)
		for i := range p.templates {
			if t := &p.templates[i]; t.kind == parsedConst && t.text == value {
				rows.all[i], rows.some = true, true
			}
		}
	}
	return rows, nil
}

// narrow takes out rows that do not have the field.
func (f *fieldRows) narrow(body *lines.Body, rows *match.Bitmap) error {
	tids, err := body.RowTemplates()
	if err != nil {
		return err
	}
	var have match.Bitmap
	have.Reset(rows.Len())
	if f.some {
		for row, tid := range tids {
			if f.all[tid] {
				have.Set(row)
			}
		}
	}
	for c, hits := range f.hits {
		if len(hits) > 0 {
			f.plan.mark(int32(c), hits, tids, have.Set)
		}
	}
	rows.And(&have)
	return nil
}

// mark calls set with each row that has the field in a column, in one of the values hits,
// which ascend.
func (p *parsedPlan) mark(column int32, hits []int, tids []uint16, set func(row int)) {
	type use struct{ nth, n int32 } // which of a row's n values of the column is the field; -1: none
	uses := make([]use, len(p.templates))
	for i := range p.templates {
		u := &uses[i]
		if t := &p.templates[i]; t.kind == parsedSlot && t.column == column {
			u.nth = t.nth
		} else {
			u.nth = -1
		}
		for _, s := range p.steps[i] {
			if s.column == column {
				u.n = s.n
			}
		}
	}
	next := 0 // value
	for row, tid := range tids {
		u := uses[tid]
		if u.n == 0 {
			continue
		}
		from := next
		next += int(u.n)
		for hits[0] < next {
			if hits[0] == from+int(u.nth) {
				set(row)
			}
			if hits = hits[1:]; len(hits) == 0 {
				return
			}
		}
	}
}
