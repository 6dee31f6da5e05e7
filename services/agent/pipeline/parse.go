package pipeline

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"

	"github.com/jmespath/go-jmespath"
	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/services/agent/config/node"
)

// input gives the text that a parser reads: the line, or an extracted value.
func (s *state) input(source int) ([]byte, bool) {
	if source < 0 {
		return s.line, true
	}
	v, ok := s.text(source)
	return raw(v), ok
}

// jsonStage extracts values of a JSON object.
type jsonStage struct {
	source        int
	dropMalformed bool
	tree          jsonNode
	slots         []int // of the results
	complex       []jmesField
}

// jmesField is an expression that is more than a path.
type jmesField struct {
	slot int
	expr *jmespath.JMESPath
}

func buildJSON(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Expressions   *yaml.Node `yaml:"expressions"`
		Source        *string    `yaml:"source"`
		DropMalformed bool       `yaml:"drop_malformed"`
	}
	if isList(body) {
		cfg.Expressions = body
	} else {
		c.decode(body, path, &cfg)
	}
	exprs := c.names(cfg.Expressions, node.Join(path, "expressions"))
	if len(exprs) == 0 {
		c.ps.Fail(body, path, "expressions is missing: which values to extract, as {name: JMESPath}")
		return
	}
	j := &jsonStage{source: c.source(body, cfg.Source, path), dropMalformed: cfg.DropMalformed}
	for _, e := range exprs {
		// Go-jmespath panics on some expressions that are not well formed.
		expr, err := compileJMES(e.source)
		if err != nil {
			c.ps.Fail(e.at, node.Join(path, "expressions."+e.name), "%q is not a JMESPath expression: %v", e.source, err)
			continue
		}
		if steps, simple := simplePath(e.source); simple {
			at := j.tree.at(steps)
			at.outs = append(at.outs, len(j.slots))
			j.slots = append(j.slots, c.slot(e.name))
		} else {
			j.complex = append(j.complex, jmesField{c.slot(e.name), expr})
		}
	}
	c.add(j)
}

func compileJMES(s string) (expr *jmespath.JMESPath, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = strconv.ErrSyntax
		}
	}()
	return jmespath.Compile(s)
}

func (j *jsonStage) run(r *Runner, s *state, at int) verdict {
	in, ok := s.input(j.source)
	if !ok {
		return keep
	}
	r.results = r.results[:0]
	for range j.slots {
		r.results = append(r.results, jsonValue{})
	}
	scan := jsonScan{b: in, results: r.results}
	if err := scan.object(&j.tree); err != nil {
		if j.dropMalformed {
			return r.reject("malformed_json", s)
		}
		return r.fail(at)
	}
	v := keep
	for i, slot := range j.slots {
		got, ok := r.take(in, r.results[i])
		if !ok {
			v = r.fail(at)
			continue
		}
		s.found(slot, got)
	}
	if len(j.complex) > 0 && !j.search(r, s, in) {
		return r.fail(at)
	}
	return v
}

// found extracts a value. One that is not there counts as present, but does not
// erase what an earlier stage or a label has given.
func (s *state) found(slot int, v value) {
	if v.kind == null && s.values[slot].kind != absent {
		return
	}
	s.values[slot] = v
}

func (j *jsonStage) search(r *Runner, s *state, in []byte) (ok bool) {
	defer func() {
		if recover() != nil { // a defect of the library must not end the agent
			ok = false
		}
	}()
	var doc any
	if err := json.Unmarshal(in, &doc); err != nil {
		return false
	}
	ok = true
	for _, f := range j.complex {
		got, err := f.expr.Search(doc)
		if err != nil {
			ok = false
			continue
		}
		s.found(f.slot, valueOf(got))
	}
	return ok
}

func valueOf(got any) value {
	switch v := got.(type) {
	case nil:
		return value{kind: null}
	case string:
		return value{v, text}
	case bool:
		return value{strconv.FormatBool(v), boolean}
	case float64:
		return value{strconv.FormatFloat(v, 'f', -1, 64), number}
	}
	b, err := json.Marshal(got)
	if err != nil {
		return value{kind: null}
	}
	return value{string(b), nested}
}

// logfmtStage extracts values of key=value pairs.
type logfmtStage struct {
	source int
	slots  map[string][]int
}

func buildLogfmt(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Mapping *yaml.Node `yaml:"mapping"`
		Source  *string    `yaml:"source"`
	}
	if isList(body) {
		cfg.Mapping = body
	} else {
		c.decode(body, path, &cfg)
	}
	pairs := c.names(cfg.Mapping, node.Join(path, "mapping"))
	if len(pairs) == 0 {
		c.ps.Fail(body, path, "mapping is missing: which values to extract, as {name: key}")
		return
	}
	l := &logfmtStage{source: c.source(body, cfg.Source, path), slots: map[string][]int{}}
	for _, p := range pairs {
		l.slots[p.source] = append(l.slots[p.source], c.slot(p.name))
	}
	c.add(l)
}

func (l *logfmtStage) run(r *Runner, s *state, at int) verdict {
	in, ok := s.input(l.source)
	if !ok {
		return keep
	}
	scan := logfmtScan{b: in}
	for {
		more, err := scan.next()
		if err != nil {
			return r.fail(at) // what was read stays
		}
		if !more {
			return keep
		}
		slots := l.slots[string(scan.key)]
		if len(slots) == 0 {
			continue
		}
		v := scan.value
		if scan.escaped {
			dst, ok := appendUnescaped(r.room(), v)
			if !ok {
				return r.fail(at)
			}
			v = r.kept(dst)
		}
		for _, slot := range slots {
			s.setText(slot, str(v))
		}
	}
}

// regexStage extracts the named groups of a regular expression.
type regexStage struct {
	source int
	re     *regexp.Regexp
	slots  []int // by group; -1: no name
}

// regex compiles an expression that must be there.
func (c *compiler) regex(n *yaml.Node, path, expr string) *regexp.Regexp {
	if expr == "" {
		c.ps.Fail(n, path, "is missing")
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		c.ps.Fail(n, path, "%v (the syntax is RE2: no lookaround, no backreferences)", err)
		return nil
	}
	return re
}

func (c *compiler) groups(re *regexp.Regexp) (slots []int, any bool) {
	for _, name := range re.SubexpNames() {
		slot := -1
		if name != "" {
			slot, any = c.slot(name), true
		}
		slots = append(slots, slot)
	}
	return slots, any
}

type regexConfig struct {
	Expression string  `yaml:"expression"`
	Source     *string `yaml:"source"`
	Replace    string  `yaml:"replace"`
	From       bool    `yaml:"labels_from_groups"`
}

func (c *compiler) regexConfig(body *yaml.Node, path string) (cfg regexConfig) {
	if isText(body) {
		cfg.Expression = node.Resolve(body).Value
	} else {
		c.decode(body, path, &cfg)
	}
	return cfg
}

func buildRegex(c *compiler, body *yaml.Node, path string) {
	cfg := c.regexConfig(body, path)
	re := c.regex(body, node.Join(path, "expression"), cfg.Expression)
	if re == nil {
		return
	}
	rs := &regexStage{source: c.source(body, cfg.Source, path), re: re}
	var any bool
	if rs.slots, any = c.groups(re); !any {
		c.ps.Fail(body, node.Join(path, "expression"), "has no named group (?P<name>...), so it would extract nothing")
		return
	}
	c.add(rs)
	if cfg.From {
		c.labelsOf(rs.re.SubexpNames())
	}
}

// labelsOf adds a labels stage for what was just extracted.
func (c *compiler) labelsOf(names []string) {
	l := &labelsStage{}
	for _, n := range names {
		if n != "" && n != "_" && syntax.IsLabelName(n) {
			l.labels = append(l.labels, nameSlot{n, c.slot(n)})
		}
	}
	c.add(l)
}

func (rs *regexStage) run(r *Runner, s *state, at int) verdict {
	in, ok := s.input(rs.source)
	if !ok {
		return keep
	}
	m := rs.re.FindSubmatchIndex(in)
	if m == nil {
		return r.fail(at)
	}
	for i, slot := range rs.slots {
		if slot < 0 {
			continue
		}
		v := ""
		if m[2*i] >= 0 {
			v = str(in[m[2*i]:m[2*i+1]])
		}
		s.setText(slot, v)
	}
	return keep
}

// replaceStage changes what the groups of a regular expression match.
type replaceStage struct {
	source int
	re     *regexp.Regexp
	slots  []int
	with   *lineTemplate
}

func buildReplace(c *compiler, body *yaml.Node, path string) {
	cfg := c.regexConfig(body, path)
	re := c.regex(body, node.Join(path, "expression"), cfg.Expression)
	if re == nil {
		return
	}
	rs := &replaceStage{source: c.source(body, cfg.Source, path), re: re}
	rs.slots, _ = c.groups(re)
	if re.NumSubexp() == 0 {
		c.ps.Warn(body, node.Join(path, "expression"), "has no group (...), so nothing will ever be replaced")
	}
	t, err := newTemplate(cfg.Replace)
	if err != nil {
		c.ps.Fail(body, node.Join(path, "replace"), "%v", err)
		return
	}
	rs.with = t
	c.add(rs)
}

func (rs *replaceStage) run(r *Runner, s *state, at int) verdict {
	in, ok := s.input(rs.source)
	if !ok {
		return keep
	}
	matches := rs.re.FindAllSubmatchIndex(in, -1)
	if matches == nil {
		return keep
	}
	var out bytes.Buffer
	done := 0
	type set struct {
		slot int
		v    string
	}
	var sets []set
	for _, m := range matches {
		for g := 1; 2*g < len(m); g++ {
			from, to := m[2*g], m[2*g+1]
			if from < 0 {
				continue
			}
			with, err := rs.with.render(r, s, string(in[from:to]), true)
			if err != nil {
				return r.fail(at)
			}
			if rs.slots[g] >= 0 {
				sets = append(sets, set{rs.slots[g], with})
			}
			if from < done {
				continue // in a group that is replaced already
			}
			out.Write(in[done:from])
			out.WriteString(with)
			done = to
		}
	}
	out.Write(in[done:])
	if rs.source < 0 {
		s.line = out.Bytes()
	} else {
		s.setText(rs.source, str(out.Bytes()))
	}
	for _, x := range sets {
		s.setText(x.slot, x.v)
	}
	return keep
}

// patternStage extracts the captures of a LogQL pattern.
type patternStage struct {
	source int
	parts  []syntax.PatternPart
	slots  []int // by part; -1: literal or <_>
}

func buildPattern(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Pattern string  `yaml:"pattern"`
		Source  *string `yaml:"source"`
		From    bool    `yaml:"labels_from_groups"`
	}
	if isText(body) {
		cfg.Pattern = node.Resolve(body).Value
	} else {
		c.decode(body, path, &cfg)
	}
	p := &patternStage{source: c.source(body, cfg.Source, path), parts: syntax.PatternParts(cfg.Pattern)}
	var names []string
	for i, part := range p.parts {
		slot := -1
		if part.Capture {
			if i > 0 && p.parts[i-1].Capture {
				c.ps.Fail(body, node.Join(path, "pattern"), "<%s> and <%s> stand side by side: where the one ends is not clear", p.parts[i-1].Text, part.Text)
				return
			}
			if part.Text != "_" {
				slot = c.slot(part.Text)
				names = append(names, part.Text)
			}
		}
		p.slots = append(p.slots, slot)
	}
	if len(names) == 0 {
		c.ps.Fail(body, node.Join(path, "pattern"), "has no named capture <name>, so it would extract nothing")
		return
	}
	c.add(p)
	if cfg.From {
		c.labelsOf(names)
	}
}

func (p *patternStage) run(r *Runner, s *state, at int) verdict {
	in, ok := s.input(p.source)
	if !ok {
		return keep
	}
	// Where each capture lies is found before any is set.
	var buf [16][2]int
	found := buf[:0]
	pos := 0
	for i := 0; i < len(p.parts); i++ {
		if !p.parts[i].Capture {
			if !bytes.HasPrefix(in[pos:], []byte(p.parts[i].Text)) {
				return r.fail(at)
			}
			pos += len(p.parts[i].Text)
			found = append(found, [2]int{})
			continue
		}
		end := len(in)
		if i+1 < len(p.parts) {
			n := bytes.Index(in[pos:], []byte(p.parts[i+1].Text))
			if n < 0 {
				return r.fail(at)
			}
			end = pos + n
		}
		found = append(found, [2]int{pos, end})
		pos = end
	}
	for i, slot := range p.slots {
		if slot >= 0 {
			s.setText(slot, str(in[found[i][0]:found[i][1]]))
		}
	}
	return keep
}
