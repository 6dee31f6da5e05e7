package pipeline

import "regexp"

// captures is what regexp and pattern have in common: named parts of the line.
type captures struct {
	parser
	slots []int // by part; -1: no name
}

// set sets the label of a part.
func (c *captures) setPart(st *Stream, part int, value []byte) bool {
	info := st.set.target(st.set.slots[c.slots[part]])
	if st.set.taken(info) || !c.needs(info) {
		return true
	}
	return c.set(st, info, str(value))
}

type regexpStage struct {
	captures
	re *regexp.Regexp
}

func newRegexpStage(p parser, text string, slot func(string) int) (*regexpStage, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	r := &regexpStage{captures{parser: p}, re}
	for _, n := range re.SubexpNames() {
		s := -1
		if n != "" {
			s = slot(n)
		}
		r.slots = append(r.slots, s)
	}
	return r, nil
}

func (r *regexpStage) run(st *Stream, line []byte) ([]byte, bool) {
	if r.idle {
		return line, true
	}
	m := r.re.FindSubmatchIndex(line)
	if m == nil {
		return line, true
	}
	for i, slot := range r.slots {
		if slot < 0 {
			continue
		}
		var value []byte
		if m[2*i] >= 0 {
			value = line[m[2*i]:m[2*i+1]]
		}
		if !r.setPart(st, i, value) {
			return line, false
		}
	}
	return line, true
}

type patternStage struct {
	captures
	pattern patternCaptures
}

func newPatternStage(p parser, text string, slot func(string) int) (*patternStage, error) {
	pattern, err := splitPattern(text) // the parser has checked all else
	if err != nil {
		return nil, err
	}
	s := &patternStage{captures{parser: p}, pattern}
	for _, part := range pattern {
		i := -1
		if part.literal == nil && part.name != "_" {
			i = slot(part.name)
		}
		s.slots = append(s.slots, i)
	}
	return s, nil
}

func (p *patternStage) run(st *Stream, line []byte) ([]byte, bool) {
	if p.idle {
		return line, true
	}
	return line, p.pattern.match(line, func(part int, value []byte) bool {
		return p.setPart(st, part, value)
	})
}
