package blockstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// fieldPlan is what is known of the templates of a row group, for queries that look at
// the same fields.
type fieldPlan struct {
	templates []templatePlan
	shapes    []fieldShape // of keys
	values    []fieldShape
	steps     []fieldStep // of all templates
	used      []int       // columns of slots that matter; elsewhere their places in it
	memory    int
}

// MemorySize implements part.
func (p *fieldPlan) MemorySize() int { return p.memory }

// templatePlan is the shapes of a template; -1: none.
type templatePlan struct {
	full     int32 // of all that matters; -1: slots do not tell that
	key      int32 // of all but the value, if that is there
	value    int32
	from, to int32 // in steps
}

// fieldStep is how many values of a column that matters a row has.
type fieldStep struct{ column, n int32 }

// fieldShape is text with holes for slots. Rows of which it is the same text are the
// same to a query.
type fieldShape struct {
	mark     byte     // tells kinds of shapes apart
	line     bool     // the text is a line with the fields that matter, and no others
	literals [][]byte // one before each slot, and one behind the last
	slots    []fieldSlot
	// Slots whose values are numbers have a code together, which is below codes; 0: they
	// have not.
	codes uint64
}

type fieldSlot struct {
	column, nth int
	width       uint64 // of its numbers, less the least one
}

// Kinds of shapes.
const (
	markFull  = 'f'
	markKey   = 'k'
	markValue = 'v'
	markApart = 'a' // full, but no line
)

func (s *selected) fieldPlan(group int, body *lines.Body, f *engine.Fields) (*fieldPlan, error) {
	text := fmt.Sprintf("%v%q%q%v", f.JSON, f.Names, f.Paths, f.Paths == nil)
	if f.Value != nil {
		text += fmt.Sprintf("%q%q", f.Value.Label, f.Value.Path)
	}
	k := key{block: s.store.block, kind: kindFields, n: group, text: text}
	return get(s.ctx, s.store.cache, k, func() (*fieldPlan, error) {
		number, _ := s.store.block.Place(group)
		sec, err := s.store.section(s.ctx, number)
		if err != nil {
			return nil, err
		}
		return planFields(sec, body, f, s.analysesOf(number, sec, f))
	})
}

func planFields(sec *block.Section, body *lines.Body, f *engine.Fields, known *analyses) (*fieldPlan, error) {
	info := body.Info()
	p := &planner{
		fieldPlan: &fieldPlan{templates: make([]templatePlan, len(info.Templates))},
		body:      body, fields: f, shapeOf: map[string]int32{}, valueOf: map[string]int32{}, keys: map[string]bool{},
	}
	uses := usesKnown{body: body}
	known.prepare(info.Templates)
	for i := range p.templates {
		t, a := &p.templates[i], known.at(int(info.Templates[i].Template))
		*t = noShapes
		if a.class == nil {
			continue
		}
		if ok, err := uses.allow(a.checks); err != nil {
			return nil, err
		} else if ok {
			*t = p.class(a.class)
		}
	}
	p.number(sec)
	p.memory += 256 + 20*len(p.templates) + 8*len(p.steps)
	return p.fieldPlan, nil
}

// number numbers the columns that shapes use, and finds how many values of them rows have.
func (p *planner) number(sec *block.Section) {
	place := make([]int32, len(p.body.Columns())) // in used, plus 1
	for _, all := range [][]fieldShape{p.shapes, p.values} {
		for i := range all {
			for k := range all[i].slots {
				s := &all[i].slots[k]
				if place[s.column] == 0 {
					p.used = append(p.used, s.column)
					place[s.column] = int32(len(p.used))
				}
				s.column = int(place[s.column]) - 1
			}
			p.memory += 64 + 56*len(all[i].slots)
			for _, l := range all[i].literals {
				p.memory += len(l)
			}
		}
	}
	if len(p.used) == 0 {
		return
	}
	info := p.body.Info()
	p.steps = make([]fieldStep, 0, len(p.templates))
	for i := range p.templates {
		t := &p.templates[i]
		t.from = int32(len(p.steps))
		for _, id := range sec.Table.Templates[info.Templates[i].Template].Columns {
			if c := place[p.body.Number(id)]; c > 0 {
				p.steps = append(p.steps[:t.from], addStep(p.steps[t.from:], c-1)...)
			}
		}
		t.to = int32(len(p.steps))
	}
}

type planner struct {
	*fieldPlan
	body    *lines.Body
	fields  *engine.Fields
	shapeOf map[string]int32
	valueOf map[string]int32
	keys    map[string]bool // Fields.Key, of names that it was asked for
	classes []templatePlan  // by number, as far as they are known
	builder shapeBuilder
	id      []byte
}

// noShapes is of templates of which slots do not tell what matters.
var noShapes = templatePlan{full: -1, key: -1, value: -1}

// class returns the shapes of a class of templates.
func (p *planner) class(c *fieldClass) templatePlan {
	for c.number >= len(p.classes) {
		p.classes = append(p.classes, noShapes)
	}
	if c.number >= 0 && p.classes[c.number].full >= 0 {
		return p.classes[c.number]
	}
	t := p.template(&c.notedFields)
	if c.number >= 0 {
		p.classes[c.number] = t
	}
	return t
}

// template works out the shapes of templates with fields.
func (p *planner) template(a *notedFields) templatePlan {
	t := noShapes
	b := &p.builder
	b.planner, b.slots = p, a
	t.full = b.fields(a.noted, !a.nested)
	value := p.valueField(a)
	if value < 0 || a.nested {
		return t
	}
	var rest []notedField
	for i, f := range a.noted {
		if i != value {
			rest = append(rest, f)
		}
	}
	t.key = b.key(rest)
	t.value = b.value(a.noted[value])
	return t
}

// valueField returns which of the fields that were noted is the value; -1: none.
func (p *planner) valueField(a *notedFields) int {
	v := p.fields.Value
	if v == nil {
		return -1
	}
	at := -1
	for i, f := range a.noted {
		is, known := p.keys[f.name]
		if !known {
			is = p.fields.Key(f.name)
			p.keys[f.name] = is
		}
		if is {
			continue
		}
		if at >= 0 || f.name != v.Path {
			return -1
		}
		at = i
	}
	if at < 0 {
		return -1
	}
	raw := a.text[a.noted[at].from:a.noted[at].to]
	switch {
	case len(raw) == 0 || bytes.IndexByte(raw, '\\') >= 0:
		return -1
	case raw[0] == '"':
		return at
	case p.fields.JSON && raw[0] != '-' && raw[0] != hole && (raw[0] < '0' || raw[0] > '9'):
		return -1
	}
	return at
}

// shapeBuilder makes shapes of a template.
type shapeBuilder struct {
	*planner
	slots *notedFields
	text  []byte // literals, end to end
	cuts  []int  // where each ends
	out   fieldShape
}

// fields returns the shape of fields: a line, if they are all at the top.
func (b *shapeBuilder) fields(noted []notedField, flat bool) int32 {
	b.begin(markFull, flat)
	if !flat {
		b.out.mark = markApart
	}
	b.list(noted)
	return b.end(&b.shapes, b.shapeOf)
}

func (b *shapeBuilder) key(noted []notedField) int32 {
	b.begin(markKey, false)
	b.list(noted)
	return b.end(&b.shapes, b.shapeOf)
}

func (b *shapeBuilder) list(noted []notedField) {
	if b.planner.fields.JSON {
		b.text = append(b.text, '{')
	}
	for i, f := range noted {
		if b.planner.fields.JSON {
			if i > 0 {
				b.text = append(b.text, ',')
			}
			b.text = append(append(append(b.text, '"'), f.name...), `":`...)
		} else {
			if i > 0 {
				b.text = append(b.text, ' ')
			}
			b.text = append(append(b.text, f.name...), '=')
		}
		b.raw(f, f.from, f.to)
	}
	if b.planner.fields.JSON {
		b.text = append(b.text, '}')
	}
}

// value returns the shape of a field's value, without quotes.
func (b *shapeBuilder) value(f notedField) int32 {
	b.begin(markValue, false)
	from, to := f.from, f.to
	if b.slots.text[from] == '"' {
		from, to = from+1, to-1
	}
	b.raw(f, from, to)
	return b.end(&b.values, b.valueOf)
}

func (b *shapeBuilder) begin(mark byte, line bool) {
	b.out = fieldShape{mark: mark, line: line, codes: 1, slots: b.out.slots[:0]}
	b.text, b.cuts = b.text[:0], b.cuts[:0]
}

// raw adds text of the template.
func (b *shapeBuilder) raw(f notedField, from, to int) {
	slot := f.slot
	for _, c := range b.slots.text[from:to] {
		if c != hole {
			b.text = append(b.text, c)
			continue
		}
		id := b.slots.columns[slot]
		col := b.body.Number(id)
		info := &b.body.Columns()[col]
		if info.Kind == column.Const {
			b.text = append(b.text, info.Prefix...)
			slot++
			continue
		}
		s := fieldSlot{column: col, nth: b.slots.nth(slot)}
		switch info.Kind {
		case column.Dict:
			s.width = uint64(info.Values.N)
		case column.Int, column.Delta, column.Pad:
			s.width = info.Max - info.Min + 1
		}
		b.cuts = append(b.cuts, len(b.text))
		b.out.slots = append(b.out.slots, s)
		if codes := b.out.codes; s.width == 0 || codes == 0 || s.width > 1<<62/codes {
			b.out.codes = 0
		} else {
			b.out.codes *= s.width
		}
		slot++
	}
}

// end returns the number of the shape.
func (b *shapeBuilder) end(all *[]fieldShape, numbers map[string]int32) int32 {
	s := &b.out
	b.cuts = append(b.cuts, len(b.text))
	b.id = append(b.id[:0], s.mark)
	from := 0
	for i, to := range b.cuts {
		b.id = append(binary.AppendUvarint(b.id, uint64(to-from)), b.text[from:to]...)
		if from = to; i < len(s.slots) {
			b.id = binary.AppendUvarint(binary.AppendUvarint(b.id, uint64(s.slots[i].column)), uint64(s.slots[i].nth))
		}
	}
	if n, ok := numbers[string(b.id)]; ok {
		return n
	}
	shape := *s
	shape.slots = slices.Clone(s.slots)
	text := bytes.Clone(b.text)
	from = 0
	for _, to := range b.cuts {
		shape.literals = append(shape.literals, text[from:to:to])
		from = to
	}
	n := int32(len(*all))
	*all = append(*all, shape)
	numbers[string(b.id)] = n
	return n
}
