package pipeline

import (
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/model"
)

// Step is what one stage did to one line, for people to read. It owns what it
// holds.
type Step struct {
	// Stage is the stage's name, Line where it stands in the configuration.
	Stage string
	Line  int
	// Outcome is kept, dropped, held (to be joined) or skipped (not matched).
	Outcome string
	// Before and After are the line around the stage.
	Before, After View
}

// View is a line at one point.
type View struct {
	Line     string
	Time     time.Time
	Labels   model.Labels
	Metadata []model.Label
	// Extracted are the values that there are, by name.
	Extracted map[string]string
}

// Stage names a stage of a Pipeline.
type Stage struct {
	Name string
	// Line is where it stands, Depth in how many others.
	Line, Depth int
}

// Stages are the stages in the order in which they run.
func (p *Pipeline) Stages() []Stage {
	out := make([]Stage, 0, len(p.ops))
	var ends []int
	for i, o := range p.ops {
		for len(ends) > 0 && ends[len(ends)-1] <= i {
			ends = ends[:len(ends)-1]
		}
		out = append(out, Stage{o.name, o.line, len(ends)})
		if o.to > i+1 {
			ends = append(ends, o.to)
		}
	}
	return out
}

// Trace has f told of every step from now on, in the goroutine that uses the
// Runner. nil ends it.
func (r *Runner) Trace(f func(Step)) { r.trace = f }

type snapshot struct{ v View }

func (s *state) snapshot(r *Runner) snapshot { return snapshot{s.view(r)} }

func (s *state) view(r *Runner) View {
	v := View{Line: string(s.line), Time: time.Unix(0, s.time).UTC(), Labels: cloneLabels(s.labels), Extracted: map[string]string{}}
	if len(s.meta) > 0 {
		v.Metadata = cloneLabels(s.meta)
	}
	for i, name := range r.p.slots {
		if s.values[i].kind == null {
			v.Extracted[name] = "<null>"
		} else if t, ok := s.text(i); ok {
			v.Extracted[name] = string(raw(t))
		}
	}
	return v
}

func (b snapshot) step(r *Runner, s *state, o *op, v verdict) Step {
	out := Step{Stage: o.name, Line: o.line, Before: b.v, After: s.view(r)}
	switch v {
	case drop:
		out.Outcome = "dropped"
	case hold:
		out.Outcome = "held"
	case jump:
		out.Outcome = "skipped"
	default:
		out.Outcome = "kept"
	}
	return out
}

// Changed reports whether the stage did anything.
func (st *Step) Changed() bool {
	a, b := st.Before, st.After
	if a.Line != b.Line || !a.Time.Equal(b.Time) || !slices.Equal(a.Labels, b.Labels) || !slices.Equal(a.Metadata, b.Metadata) ||
		len(a.Extracted) != len(b.Extracted) {
		return true
	}
	for k, v := range a.Extracted {
		if w, ok := b.Extracted[k]; !ok || v != w {
			return true
		}
	}
	return false
}
