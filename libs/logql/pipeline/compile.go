package pipeline

import (
	"errors"
	"fmt"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Compile compiles stages. The error is a *syntax.ParseError, `parse error : stage '…' : …`.
func Compile(stages []syntax.Stage, hints Hints) (*Pipeline, error) {
	c := newCompiler(hints)
	if err := c.compile(stages); err != nil {
		return nil, err
	}
	c.need(hints.Needed)
	return c.p, nil
}

func newCompiler(hints Hints) *compiler {
	c := &compiler{p: &Pipeline{first: &LineMatcher{}}, slots: map[string]int{}}
	c.p.prog.now = hints.Now
	c.p.prog.checks = map[string][]earlyCheck{}
	return c
}

func (c *compiler) compile(stages []syntax.Stage) error {
	movable := true // line filters may be moved to the front
	for _, s := range stages {
		if err := c.stage(s, &movable); err != nil {
			return syntax.StageError(s, err)
		}
	}
	return nil
}

type compiler struct {
	p       *Pipeline
	slots   map[string]int
	parsers []*parser
	uses    []use
}

// use is what a stage reads and writes, for leaving out work and for early checks.
type use struct {
	reads   []string
	all     bool     // reads all labels
	changes []string // labels that it sets or removes whatever parsers found
	any     bool     // it may change any label
	parser  *parser
}

func (c *compiler) slot(name string) int {
	if i, ok := c.slots[name]; ok {
		return i
	}
	i := len(c.p.prog.slots)
	c.slots[name] = i
	c.p.prog.slots = append(c.p.prog.slots, name)
	return i
}

func (c *compiler) add(s stage, u use) {
	c.p.prog.stages = append(c.p.prog.stages, s)
	c.uses = append(c.uses, u)
}

func (c *compiler) parser() parser {
	p := parser{at: len(c.p.prog.stages), number: len(c.parsers)}
	return p
}

func (c *compiler) stage(s syntax.Stage, movable *bool) error {
	switch s := s.(type) {
	case *syntax.LineFilter:
		f, needles, err := compileLineFilter(s)
		if err != nil {
			return err
		}
		if *movable {
			c.p.first.add(f, needles)
			return nil
		}
		// Neighbours share a stage.
		if n := len(c.p.prog.stages); n > 0 {
			if last, ok := c.p.prog.stages[n-1].(*lineFilterStage); ok {
				last.m.add(f, nil)
				return nil
			}
		}
		st := &lineFilterStage{}
		st.m.add(f, nil)
		c.add(st, use{})
	case *syntax.JSON:
		if len(s.Extractions) > 0 {
			fields, names := c.fields(s.Extractions)
			j, err := newJSONFields(c.parser(), fields)
			if err != nil {
				return err
			}
			c.addParser(j, &j.parser, names)
			return nil
		}
		j := &jsonStage{c.parser()}
		c.addParser(j, &j.parser, nil)
	case *syntax.Logfmt:
		if len(s.Extractions) > 0 {
			fields, names := c.fields(s.Extractions)
			l, err := newLogfmtFields(c.parser(), fields)
			if err != nil {
				return err
			}
			l.strict, l.keepEmpty = s.Strict, s.KeepEmpty
			c.addParser(l, &l.parser, names)
			return nil
		}
		l := &logfmtStage{parser: c.parser(), strict: s.Strict, keepEmpty: s.KeepEmpty}
		c.addParser(l, &l.parser, nil)
	case *syntax.Regexp:
		r, err := newRegexpStage(c.parser(), s.Text, c.slot)
		if err != nil {
			return err
		}
		c.addParser(r, &r.parser, nil)
	case *syntax.Pattern:
		r, err := newPatternStage(c.parser(), s.Text, c.slot)
		if err != nil {
			return err
		}
		c.addParser(r, &r.parser, nil)
	case *syntax.Unpack:
		u := &unpackStage{c.parser()}
		c.addParser(u, &u.parser, nil)
		*movable = false
	case *syntax.LabelFilter:
		return c.labelFilter(s)
	case *syntax.LineFormat:
		t, err := newTemplate(s.Template, c.slot)
		if err != nil {
			return fmt.Errorf("invalid line template: %s", templateError(err))
		}
		c.add(&lineFormat{t}, use{reads: fieldNames(t.fields), all: t.all})
		*movable = false
	case *syntax.LabelFormat:
		f, err := c.labelFormat(s.Assigns)
		if err != nil {
			return err
		}
		u := use{}
		for i, a := range s.Assigns {
			u.changes = append(u.changes, a.Name)
			if a.Rename {
				u.reads = append(u.reads, a.Value)
			} else {
				u.reads = append(u.reads, fieldNames(f.assigns[i].t.fields)...)
				u.all = u.all || f.assigns[i].t.all
			}
		}
		c.add(f, u)
	case *syntax.Decolorize:
		c.add(decolorizeStage{}, use{})
		*movable = false
	case *syntax.Drop:
		c.drop(s.Labels, false)
	case *syntax.Keep:
		c.drop(s.Labels, true)
	default:
		if syntax.Extended(s) {
			return errors.New("it works on the entries of an answer and cannot stand here")
		}
		panic(fmt.Sprintf("unknown stage %T", s))
	}
	return nil
}

type labelAssignment = syntax.LabelAssign

func fieldNames(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

func (c *compiler) fields(ex []syntax.Extraction) (fields []field, names []string) {
	for _, e := range ex {
		fields = append(fields, field{c.slot(e.Name), e.Name, e.Path})
		names = append(names, e.Name, e.Name+extractedSuffix)
	}
	return fields, names
}

func (c *compiler) addParser(s stage, p *parser, changes []string) {
	c.parsers = append(c.parsers, p)
	c.add(s, use{parser: p, changes: changes})
}

func (c *compiler) drop(refs []syntax.LabelRef, keep bool) {
	d := &dropStage{keep: keep}
	u := use{any: keep}
	for _, r := range refs {
		ref := labelRef{slot: c.slot(r.Name), name: r.Name}
		if r.Matcher != nil {
			ref.matches = matches(r.Matcher)
			u.reads = append(u.reads, r.Name)
		}
		d.refs = append(d.refs, ref)
		if !keep {
			u.changes = append(u.changes, r.Name)
		}
	}
	c.add(d, u)
}

func (c *compiler) labelFilter(s *syntax.LabelFilter) error {
	cond, err := compileCondition(s.Cond, c.slot)
	if err != nil {
		return err
	}
	if name := singleLabel(s.Cond); name != "" {
		at := len(c.p.prog.stages)
		after := -1
		for i, u := range c.uses {
			changed := u.any
			for _, n := range u.changes {
				changed = changed || n == name
			}
			if changed {
				after = i
				if u.parser != nil {
					after = i - 1 // what it sets overwrites; its own labels are checked
				}
			}
		}
		if vc, ok := cond.(valueCondition); ok {
			c.p.prog.checks[name] = append(c.p.prog.checks[name], earlyCheck{after, at, vc})
		}
	}
	c.add(&filterStage{cond}, use{reads: syntaxNames(s.Cond)})
	return nil
}

func syntaxNames(c syntax.Condition) []string {
	if l, ok := c.(*syntax.LogicalCond); ok {
		return append(syntaxNames(l.Left), syntaxNames(l.Right)...)
	}
	if n := singleLabel(c); n != "" {
		return []string{n}
	}
	return nil
}

// need finds out, from the last stage to the first, which labels parsers have to set.
func (c *compiler) need(after []string) {
	all := after == nil
	names := map[string]bool{}
	for _, n := range after {
		names[n] = true
	}
	c.p.prog.needs = make([]map[string]bool, len(c.parsers))
	for i := len(c.uses) - 1; i >= 0; i-- {
		u := c.uses[i]
		if p := u.parser; p != nil && !all && p.number < 63 {
			own := make(map[string]bool, len(names))
			for n := range names {
				own[n] = true
			}
			c.p.prog.needs[p.number] = own
			p.idle = len(own) == 0
		}
		all = all || u.all
		for _, n := range u.reads {
			names[n] = true
		}
	}
}
