package blockstore

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

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
	nth    int   // of the template's slots of the column
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
		return planParsed(sec, body, f, s.analysesOf(number))
	})
}

func planParsed(sec *block.Section, body *lines.Body, f *engine.FieldEquals, known *analyses) (*parsedPlan, error) {
	info := body.Info()
	p := &parsedPlan{templates: make([]parsedField, len(info.Templates)), steps: make([][]fieldStep, len(info.Templates))}
	u, names := newUses(sec, body), map[string]bool{}
	place := make([]int32, len(body.Columns())) // in columns, plus 1
	for i := range p.templates {
		t := &p.templates[i]
		a := known.analyze(sec, info.Templates[i].Template, f.Fields, names)
		if ok, err := u.allow(a); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		if len(a.noted) == 0 {
			t.kind = parsedNowhere
			continue
		}
		n := a.noted[0]
		if len(a.noted) > 1 || a.nested || n.name != f.Name {
			continue
		}
		raw := a.text[n.from:n.to]
		if len(raw) >= 2 && raw[0] == '"' {
			raw = raw[1 : len(raw)-1]
		} else if f.Fields.JSON && string(raw) != string(rune(hole)) {
			continue // true, null, a number, an object
		}
		switch {
		case bytes.IndexByte(raw, '\\') >= 0:
		case len(raw) == 1 && raw[0] == hole:
			c := body.Number(a.columns[n.slot])
			if place[c] == 0 {
				p.columns = append(p.columns, c)
				place[c] = int32(len(p.columns))
			}
			t.kind, t.column = parsedSlot, place[c]-1
			for k := range n.slot {
				if a.columns[k] == a.columns[n.slot] {
					t.nth++
				}
			}
		case bytes.IndexByte(raw, hole) < 0:
			t.kind, t.text = parsedConst, string(raw)
		}
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

// parsed takes out rows that do not have field i of those that are wanted. program is
// what they match besides, if it is not nil.
func (s *selected) parsed(group int, body *lines.Body, i int, program *match.SectionProgram, rows *match.Bitmap) error {
	f := &s.need.Parsed[i]
	plan, err := s.parsedPlan(group, body, f, s.texts[i])
	if err != nil {
		return err
	}
	if plan.all {
		return nil
	}
	hits, found := make([][]int, len(plan.columns)), false
	for i, c := range plan.columns {
		if err := body.Find(c, []byte(f.Value), func(n int) { hits[i], found = append(hits[i], n), true }); err != nil {
			return err
		}
	}
	all, some := plan.unknown, plan.some // templates of which all rows stay
	if plan.consts {
		all = slices.Clone(all)
		for i := range plan.templates {
			if t := &plan.templates[i]; t.kind == parsedConst && t.text == f.Value {
				all[i], some = true, true
			}
		}
	}
	if some && !found && program != nil {
		_, index := s.store.block.Place(group)
		lacks, err := program.Lacks(index, body, all)
		if err != nil {
			return err
		}
		some = !lacks
	}
	if !some && !found {
		rows.Reset(rows.Len())
		return nil
	}
	tids, err := body.RowTemplates()
	if err != nil {
		return err
	}
	cursors := make([]int, len(plan.columns))
	for row, tid := range tids {
		t := &plan.templates[tid]
		if !all[tid] && rows.Has(row) {
			has := false
			if t.kind == parsedSlot {
				has = contains(hits[t.column], cursors[t.column]+t.nth)
			}
			if !has {
				rows.Clear(row)
			}
		}
		for _, s := range plan.steps[tid] {
			cursors[s.column] += int(s.n)
		}
	}
	return nil
}

// contains reports whether ascending numbers hold one.
func contains(list []int, n int) bool {
	i := sort.SearchInts(list, n)
	return i < len(list) && list[i] == n
}
