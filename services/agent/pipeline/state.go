package pipeline

import (
	"sort"
	"strconv"
	"strings"
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
)

// kind is what an extracted value is.
type kind uint8

const (
	absent kind = iota
	null        // there, without a value
	text
	number // as it was written
	boolean
	nested // an object or a list, as JSON
)

// value is an extracted value. Its text may alias the line.
type value struct {
	s    string
	kind kind
}

// asText gives the value as stages want it: no exponents, and no null.
func (v value) asText() (string, bool) {
	switch v.kind {
	case text, boolean:
		return v.s, true
	case nested:
		return v.s, true
	case number:
		if strings.IndexByte(v.s, '.') < 0 && strings.IndexByte(v.s, 'e') < 0 && strings.IndexByte(v.s, 'E') < 0 {
			return v.s, true // all digits stay
		}
		f, err := strconv.ParseFloat(v.s, 64)
		if err != nil {
			return v.s, true
		}
		return strconv.FormatFloat(f, 'f', -1, 64), true
	}
	return "", false
}

// state is a line on its way through the stages.
type state struct {
	base          *entry.Set
	labels        []model.Label // sorted; base's own unless labelsChanged
	labelsChanged bool
	ownLabels     []model.Label // the buffer of changed labels

	line    []byte
	time    int64
	ownTime bool
	meta    []model.Label // sorted
	ownMeta bool          // meta may be changed in place
	tenant  string
	span    entry.Span
	spans   []entry.Span // of a joined line; nil: span alone

	values []value // extracted, by slot
}

func (r *Runner) get() *state {
	if n := len(r.free); n > 0 {
		s := r.free[n-1]
		r.free = r.free[:n-1]
		return s
	}
	return &state{values: make([]value, len(r.p.slots))}
}

func (r *Runner) put(s *state) { r.free = append(r.free, s) }

// load begins with an entry.
func (s *state) load(r *Runner, e *entry.Entry) {
	s.base, s.labels, s.labelsChanged = e.Labels, e.Labels.Labels(), false
	s.line, s.time, s.ownTime, s.tenant = e.Line, e.Time, e.OwnTime, e.Tenant
	s.meta, s.ownMeta = e.Metadata, false
	s.span, s.spans = e.Span, nil
	if r.base != e.Labels || r.initial == nil {
		r.base, r.initial = e.Labels, make([]value, len(r.p.slots))
		for _, l := range s.labels {
			if i, ok := r.p.slotOf[l.Name]; ok {
				r.initial[i] = value{l.Value, text}
			}
		}
	}
	copy(s.values, r.initial)
}

// copyLabels extracts the labels, as at the start of nested stages.
func (s *state) copyLabels(p *Pipeline) {
	for _, l := range s.labels {
		if i, ok := p.slotOf[l.Name]; ok {
			s.values[i] = value{l.Value, text}
		}
	}
}

func (s *state) label(name string) (string, bool) {
	for i := range s.labels {
		if s.labels[i].Name == name {
			return s.labels[i].Value, true
		}
	}
	return "", false
}

// ownedLabels makes the labels changeable.
func (s *state) ownedLabels() {
	if !s.labelsChanged {
		s.ownLabels = append(s.ownLabels[:0], s.labels...)
		s.labels, s.labelsChanged = s.ownLabels, true
	}
}

func (s *state) setLabel(name, v string) {
	i := 0
	for i < len(s.labels) && s.labels[i].Name < name {
		i++
	}
	there := i < len(s.labels) && s.labels[i].Name == name
	if there && s.labels[i].Value == v {
		return
	}
	s.ownedLabels()
	if !there {
		s.labels = append(s.labels, model.Label{})
		copy(s.labels[i+1:], s.labels[i:])
		s.ownLabels = s.labels
	}
	s.labels[i] = model.Label{Name: name, Value: v}
}

// keepLabels removes the labels that f does not want.
func (s *state) keepLabels(f func(name string) bool) {
	for i := range s.labels {
		if f(s.labels[i].Name) {
			continue
		}
		s.ownedLabels()
		out := s.labels[:i]
		for _, l := range s.labels[i:] {
			if f(l.Name) {
				out = append(out, l)
			}
		}
		s.labels, s.ownLabels = out, out
		return
	}
}

func (s *state) setMeta(name, v string) {
	if !s.ownMeta {
		// The buffer is not used again: entries given out keep their metadata.
		s.meta = append(make([]model.Label, 0, len(s.meta)+4), s.meta...)
		s.ownMeta = true
	}
	i := sort.Search(len(s.meta), func(i int) bool { return s.meta[i].Name >= name })
	if i < len(s.meta) && s.meta[i].Name == name {
		s.meta[i].Value = v
		return
	}
	s.meta = append(s.meta, model.Label{})
	copy(s.meta[i+1:], s.meta[i:])
	s.meta[i] = model.Label{Name: name, Value: v}
}

// text gives an extracted value as text; false: there is none, or it has none.
func (s *state) text(slot int) (string, bool) { return s.values[slot].asText() }

func (s *state) setText(slot int, v string) { s.values[slot] = value{v, text} }

// str and raw see the same bytes as text or bytes. Nobody changes bytes of lines
// in place.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func raw(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
