package blockstore

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// A section has thousands of templates, as has each of its row groups, but the fields that
// matter to a query are in few ways in them. So what a query needs of templates is worked out
// once for a section, and told by few classes: row groups work out only what these are there.

// analyses is what a query has worked out of the templates of a section, for the same fields.
type analyses struct {
	section *block.Section
	fields  *engine.Fields
	of      []atomic.Pointer[analysis] // by template

	mu      sync.Mutex
	classes map[string]*fieldClass
}

// analysis is what is known of a template. It is not changed.
type analysis struct {
	class  *fieldClass // nil: more than some slots may matter
	checks []slotCheck
}

// slotCheck is what the values of a column have to keep to, as far as the section does not say.
type slotCheck struct {
	column uint32
	use    slotUse
}

// fieldClass is templates whose fields that matter are the same text, with the same values of
// the same columns in it.
type fieldClass struct {
	number int // among those of the section; -1: it is not kept
	notedFields
}

// maxAnalyzed is of how many templates of a section a query keeps what was worked out, and how
// many classes.
const maxAnalyzed = 1 << 15

// claimed is the analysis of templates that are being looked at.
var claimed = &analysis{}

// analysesKey tells analyses of a query apart.
type analysesKey struct {
	section int
	fields  *engine.Fields
}

// analysesOf returns what the query has worked out of the templates of a section for fields.
func (s *selected) analysesOf(number int, sec *block.Section, f *engine.Fields) *analyses {
	key := analysesKey{number, f}
	k, ok := s.analyses.Load(key)
	if !ok {
		k, _ = s.analyses.LoadOrStore(key, newAnalyses(sec, f))
	}
	return k.(*analyses)
}

func newAnalyses(sec *block.Section, f *engine.Fields) *analyses {
	return &analyses{section: sec, fields: f, of: make([]atomic.Pointer[analysis], min(len(sec.Table.Templates), maxAnalyzed)), classes: map[string]*fieldClass{}}
}

// prepare analyzes the templates of a row group, but for those that others are at.
func (k *analyses) prepare(list []template.Count) {
	names := map[string]bool{} // that may matter, or not
	for i := range list {
		n := int(list[i].Template)
		if n < len(k.of) && k.of[n].Load() == nil && k.of[n].CompareAndSwap(nil, claimed) {
			k.of[n].Store(k.analyze(n, names))
		}
	}
}

// at returns what is known of a template.
func (k *analyses) at(n int) *analysis {
	if n < len(k.of) {
		if a := k.of[n].Load(); a != nil && a != claimed {
			return a
		}
	}
	return k.analyze(n, map[string]bool{})
}

// analyze works out what is known of a template. names keeps which names may matter.
func (k *analyses) analyze(n int, names map[string]bool) *analysis {
	a := analyzeFields(&k.section.Table.Templates[n], k.fields, names)
	if !a.ok {
		return &analysis{}
	}
	out := &analysis{}
	for i, id := range a.columns {
		use := a.use[i]
		if c := &k.section.Table.Columns[id]; c.IsTime {
			if a.matters[i] || use&^useOfTimes(&c.Layout) != 0 { // times are not told by their values
				return &analysis{}
			}
			continue
		}
		if use &^= k.told(id); use != 0 {
			out.check(id, use)
		}
	}
	out.class = k.classOf(&a.notedFields)
	return out
}

func (a *analysis) check(column uint32, use slotUse) {
	for i := range a.checks {
		if a.checks[i].column == column {
			a.checks[i].use |= use
			return
		}
	}
	a.checks = append(a.checks, slotCheck{column, use})
}

// told returns uses that all values of a column of text keep to in the whole section.
func (k *analyses) told(id uint32) (use slotUse) {
	if k.section.Plain != nil {
		use = useOf(k.section.Plain[id])
	}
	if k.section.Columns != nil {
		if s := &k.section.Columns[id]; s.Seen && s.Classes == column.Digit && s.MinLen > 0 {
			use |= digits
		}
	}
	return use
}

// classOf returns the class of a template.
func (k *analyses) classOf(f *notedFields) *fieldClass {
	id := make([]byte, 0, 128)
	for _, x := range f.noted {
		id = append(binary.AppendUvarint(id, uint64(len(x.name))), x.name...)
		id = append(binary.AppendUvarint(id, uint64(x.to-x.from)), f.text[x.from:x.to]...)
		for i := range f.slotsIn(x) {
			id = binary.AppendUvarint(id, uint64(f.columns[x.slot+i]))
			id = binary.AppendUvarint(id, uint64(f.nth(x.slot+i)))
		}
	}
	if f.nested {
		id = append(id, 0)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.classes[string(id)]; c != nil {
		return c
	}
	c := &fieldClass{-1, *f}
	if n := len(k.classes); n < maxAnalyzed {
		c.number = n
		k.classes[string(id)] = c
	}
	return c
}

// slotsIn returns how many slots there are in a field.
func (f *notedFields) slotsIn(x notedField) int {
	return bytes.Count(f.text[x.from:x.to], []byte{hole})
}

// nth returns how many slots before one have the same column.
func (f *notedFields) nth(slot int) (n int) {
	for _, id := range f.columns[:slot] {
		if id == f.columns[slot] {
			n++
		}
	}
	return n
}

// digits is what values of digits keep to.
const digits = inString | inWord | inNumber

// useOfTimes returns the uses that in-line times of a layout keep to.
func useOfTimes(l *template.Layout) slotUse {
	use := useOf(column.PlainOf(l.Shape()))
	if bytes.IndexByte(l.Shape(), '_') >= 0 {
		use &^= inWord // it may be a blank
	}
	return use
}

// useOf returns the uses of values that are plain.
func useOf(p column.Plain) (use slotUse) {
	if p&column.InQuotes != 0 {
		use |= inString
	}
	if p&column.InWords != 0 {
		use |= inWord
	}
	return use
}

// usesKnown is the uses that columns of text of a row group keep to, as far as they were asked
// for.
type usesKnown struct {
	body *lines.Body
	of   []slotUse // by column; nil: none was asked for
}

const useKnown slotUse = 1 << 7

// allow reports whether what was worked out of a template's text holds for its lines.
func (u *usesKnown) allow(checks []slotCheck) (bool, error) {
	for _, k := range checks {
		c := u.body.Number(k.column)
		if u.of == nil {
			u.of = make([]slotUse, len(u.body.Columns()))
		}
		if u.of[c] == 0 {
			info := &u.body.Columns()[c]
			switch isDigits := info.Classes == column.Digit && info.MinLen > 0; {
			case isDigits:
				u.of[c] = digits | useKnown
			case k.use&inNumber != 0:
				return false, nil // whatever else it is good for, which takes text to see
			default:
				p, err := info.Plain(func() ([]byte, error) { return u.body.Text(c) })
				if err != nil {
					return false, err
				}
				u.of[c] = useOf(p) | useKnown
			}
		}
		if k.use&^u.of[c] != 0 {
			return false, nil
		}
	}
	return true, nil
}
