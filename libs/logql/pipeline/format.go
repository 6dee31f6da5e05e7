package pipeline

import (
	"errors"
	"fmt"
	"strings"
)

// lineFormat is `| line_format`.
type lineFormat struct{ t *lineTemplate }

func (f *lineFormat) run(st *Stream, line []byte) ([]byte, bool) {
	out, err := f.t.render(st, line)
	if err != nil {
		st.set.setErr(ErrTemplateFormat, err.Error())
		return line, true
	}
	return out, true
}

// labelFormat is `| label_format`.
type labelFormat struct{ assigns []labelAssign }

type labelAssign struct {
	dst int
	src int           // of a rename
	t   *lineTemplate // nil: rename
}

func (f *labelFormat) run(st *Stream, line []byte) ([]byte, bool) {
	next := -1 // result of the next template
	for i := range f.assigns {
		a := &f.assigns[i]
		dst := st.set.slots[a.dst]
		if a.t == nil {
			src := st.set.slots[a.src]
			if v, ok := st.set.get(src); ok {
				st.set.set(dst, v)
				st.set.del(src)
			}
			continue
		}
		if next < 0 {
			next = 0
			f.render(st, line, i)
		}
		r := st.results[next]
		next++
		if r.err != nil {
			st.set.setErr(ErrTemplateFormat, r.err.Error())
			continue
		}
		st.set.set(dst, str(r.text))
	}
	return line, true
}

type rendered struct {
	text []byte
	err  error
}

// render executes all templates from the first on. They see the labels as they are now.
func (f *labelFormat) render(st *Stream, line []byte, first int) {
	st.results = st.results[:0]
	for _, a := range f.assigns[first:] {
		if a.t != nil {
			text, err := a.t.render(st, line)
			st.results = append(st.results, rendered{text, err})
		}
	}
}

func (c *compiler) labelFormat(assigns []labelAssignment) (*labelFormat, error) {
	f := &labelFormat{}
	seen := map[string]bool{}
	for _, a := range assigns {
		switch {
		case a.Name == errorLabel:
			return nil, errors.New(errorLabel + " cannot be formatted")
		case seen[a.Name]:
			return nil, fmt.Errorf("multiple label name '%s' not allowed in a single format operation", a.Name)
		}
		seen[a.Name] = true
		out := labelAssign{dst: c.slot(a.Name)}
		if a.Rename {
			out.src = c.slot(a.Value)
		} else {
			t, err := newTemplate(a.Value, c.slot)
			if err != nil {
				return nil, fmt.Errorf("invalid template for label '%s': %s", a.Name, templateError(err))
			}
			out.t = t
		}
		f.assigns = append(f.assigns, out)
	}
	return f, nil
}

// templateError is the text of err without the name of the template, which has none.
func templateError(err error) string {
	return strings.TrimPrefix(err.Error(), "template: :")
}

// dropStage is `| drop` and `| keep`.
type dropStage struct {
	refs []labelRef
	keep bool
}

type labelRef struct {
	slot    int
	name    string
	matches func(string) bool // nil: by name alone
}

func (d *dropStage) run(st *Stream, line []byte) ([]byte, bool) {
	s := &st.set
	if d.keep {
		d.runKeep(st)
		return line, true
	}
	for _, r := range d.refs {
		info := s.slots[r.slot]
		if r.matches != nil {
			v, _ := s.get(info)
			switch r.name {
			case errorLabel:
				v = s.errKind
			case errorDetailsLabel:
				v = s.errDetails
			}
			if !r.matches(v) {
				continue
			}
		}
		switch r.name {
		case errorLabel:
			s.errKind = ""
		case errorDetailsLabel:
			s.errDetails = ""
		}
		if _, ok := s.get(info); ok || r.matches == nil {
			s.del(info)
		}
	}
	return line, true
}

func (d *dropStage) runKeep(st *Stream) {
	s := &st.set
	kept := func(info *nameInfo, value string) bool {
		switch info.name {
		case errorLabel, errorDetailsLabel, preserveLabel:
			return true
		}
		for _, r := range d.refs {
			if r.name == info.name && (r.matches == nil || r.matches(value)) {
				return true
			}
		}
		return false
	}
	s.collect()
	for _, l := range s.all {
		if !kept(l.info, l.value) {
			s.del(l.info)
		}
	}
}

// decolorizeStage is `| decolorize`.
type decolorizeStage struct{}

func (decolorizeStage) run(st *Stream, line []byte) ([]byte, bool) {
	return st.arena.decolorize(line), true
}
