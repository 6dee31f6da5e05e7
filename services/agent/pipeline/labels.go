package pipeline

import (
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/entry"
)

// nameSlot is a label or metadata and the extracted value it is set to.
type nameSlot struct {
	name string
	slot int
}

// labelsStage sets labels to extracted values.
type labelsStage struct{ labels []nameSlot }

func buildLabels(c *compiler, body *yaml.Node, path string) {
	l := &labelsStage{}
	pairs := c.names(body, path)
	for _, p := range pairs {
		if c.labelName(p.at, path, p.name) {
			l.labels = append(l.labels, nameSlot{p.name, c.slot(p.source)})
		}
	}
	if len(pairs) == 0 {
		c.ps.Fail(body, path, "is empty: which labels to set, as {label: extracted value}")
		return
	}
	c.add(l)
}

func (l *labelsStage) run(r *Runner, s *state, at int) verdict {
	v := keep
	for _, n := range l.labels {
		t, ok := s.text(n.slot)
		if !ok {
			continue
		}
		if !utf8.ValidString(t) {
			v = r.fail(at)
			continue
		}
		s.setLabel(n.name, t)
	}
	return v
}

// metadataStage sets structured metadata to extracted values, or moves labels
// there.
type metadataStage struct {
	fields []nameSlot
	names  []string // of the sources
}

func buildMetadata(c *compiler, body *yaml.Node, path string) {
	m := &metadataStage{}
	for _, p := range c.names(body, path) {
		if p.name == "" {
			c.ps.Fail(p.at, path, "a name must not be empty")
			continue
		}
		m.fields = append(m.fields, nameSlot{p.name, c.slot(p.source)})
		m.names = append(m.names, p.source)
	}
	if len(m.fields) == 0 {
		c.ps.Fail(body, path, "is empty: which metadata to set, as {name: extracted value or label}")
		return
	}
	c.add(m)
}

func (m *metadataStage) run(r *Runner, s *state, at int) verdict {
	v := keep
	for i, f := range m.fields {
		label, isLabel := s.label(m.names[i])
		t, ok := s.text(f.slot)
		if !ok {
			if t, ok = label, isLabel; !ok {
				continue
			}
		}
		if !utf8.ValidString(t) {
			v = r.fail(at)
			continue
		}
		s.setMeta(f.name, t)
		if isLabel && label == t {
			name := m.names[i]
			s.keepLabels(func(n string) bool { return n != name })
		}
	}
	return v
}

// metadataDrop removes structured metadata.
type metadataDrop struct{ names []string }

func buildMetadataDrop(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Values []string `yaml:"values"`
	}
	if isList(body) || isText(body) {
		node.Decode(body, path, &cfg.Values, node.Options{Loose: true}, c.ps)
	} else {
		c.decode(body, path, &cfg)
	}
	if len(cfg.Values) == 0 {
		c.ps.Fail(body, path, "is empty: which metadata to remove, as a list of names")
		return
	}
	c.add(&metadataDrop{cfg.Values})
}

func (m *metadataDrop) run(_ *Runner, s *state, _ int) verdict {
	for _, name := range m.names {
		for i := range s.meta {
			if s.meta[i].Name != name {
				continue
			}
			kept := append(s.meta[:i:i], s.meta[i+1:]...) // a new slice: meta may be shared
			s.meta, s.ownMeta = kept, true
			break
		}
	}
	return keep
}

// staticLabels sets labels to fixed values.
type staticLabels struct{ names, values []string }

func buildStaticLabels(c *compiler, body *yaml.Node, path string) {
	pairs, ok := node.Pairs(body, path, c.ps)
	if !ok {
		return
	}
	st := &staticLabels{}
	for _, p := range pairs {
		at := node.Join(path, p.Key.Value)
		switch {
		case !c.labelName(p.Key, path, p.Key.Value):
		case node.IsNull(p.Value) || p.Value.Kind == yaml.ScalarNode && p.Value.Value == "":
			c.ps.Warn(p.Value, at, "has no value and sets nothing")
		case p.Value.Kind != yaml.ScalarNode:
			c.ps.Fail(p.Value, at, "must be a text, not %s", node.Kind(p.Value))
		default:
			st.names, st.values = append(st.names, p.Key.Value), append(st.values, p.Value.Value)
		}
	}
	if len(pairs) == 0 {
		c.ps.Fail(body, path, "is empty: which labels to set, as {label: value}")
		return
	}
	c.add(st)
}

func (st *staticLabels) run(_ *Runner, s *state, _ int) verdict {
	for i, n := range st.names {
		s.setLabel(n, st.values[i])
	}
	return keep
}

// labelSelect keeps or removes labels by name.
type labelSelect struct {
	names map[string]bool
	keep  bool
}

func buildLabelDrop(c *compiler, body *yaml.Node, path string)  { c.labelSelect(body, path, false) }
func buildLabelAllow(c *compiler, body *yaml.Node, path string) { c.labelSelect(body, path, true) }

func (c *compiler) labelSelect(body *yaml.Node, path string, keep bool) {
	var names []string
	node.Decode(body, path, &names, node.Options{Loose: true}, c.ps)
	if len(names) == 0 {
		c.ps.Fail(body, path, "is empty: a list of label names is wanted")
		return
	}
	l := &labelSelect{map[string]bool{}, keep}
	for _, n := range names {
		l.names[n] = true
	}
	if keep {
		l.names[entry.TenantLabel] = true // whose a line is, is no matter of labels
	}
	c.add(l)
}

func (l *labelSelect) run(_ *Runner, s *state, _ int) verdict {
	s.keepLabels(func(n string) bool { return l.names[n] == l.keep })
	return keep
}

// tenantStage says whose the line is.
type tenantStage struct {
	label string
	slot  int // -1: not from an extracted value
	value string
}

func buildTenant(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Label  string `yaml:"label"`
		Source string `yaml:"source"`
		Value  string `yaml:"value"`
	}
	if isText(body) {
		cfg.Value = node.Resolve(body).Value
	} else {
		c.decode(body, path, &cfg)
	}
	n := 0
	for _, s := range []string{cfg.Label, cfg.Source, cfg.Value} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		c.ps.Fail(body, path, "needs exactly one of label, source, value; it has %d", n)
		return
	}
	t := &tenantStage{cfg.Label, -1, cfg.Value}
	if cfg.Source != "" {
		t.slot = c.slot(cfg.Source)
	}
	c.add(t)
}

func (t *tenantStage) run(_ *Runner, s *state, _ int) verdict {
	v := t.value
	switch {
	case t.slot >= 0:
		v, _ = s.text(t.slot)
	case t.label != "":
		v, _ = s.label(t.label)
	}
	if v != "" && utf8.ValidString(v) {
		s.setLabel(entry.TenantLabel, v)
	}
	return keep
}

// outputStage makes an extracted value the line.
type outputStage struct{ slot int }

func buildOutput(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Source string `yaml:"source"`
	}
	if isText(body) {
		cfg.Source = node.Resolve(body).Value
	} else {
		c.decode(body, path, &cfg)
	}
	if cfg.Source == "" {
		c.ps.Fail(body, node.Join(path, "source"), "is missing: which extracted value becomes the line")
		return
	}
	c.add(&outputStage{c.slot(cfg.Source)})
}

func (o *outputStage) run(r *Runner, s *state, at int) verdict {
	v, ok := s.text(o.slot)
	if !ok {
		if s.values[o.slot].kind == null {
			return r.fail(at)
		}
		return keep
	}
	s.line = raw(v)
	return keep
}
