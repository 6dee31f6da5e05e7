// Package selection tells which entries a log query keeps: those that a delete
// removes, or that a rule of retention concerns. It is pure.
package selection

import (
	"fmt"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Selection is a log query of which only matters what it keeps. It is immutable
// and safe for concurrent use.
type Selection struct {
	selector *syntax.LogSelector
	pipeline *pipeline.Pipeline
}

// Parse reads a log query: a stream selector, and line filters, parsers and label
// filters behind it. Stages that make up a text are refused: what they make may
// depend on when they are run. The error is for users.
func Parse(text string) (*Selection, error) {
	sel, err := syntax.ParseLogQuery(text)
	if err != nil {
		return nil, err
	}
	for _, s := range sel.Stages {
		switch s.(type) {
		case *syntax.LineFormat, *syntax.LabelFormat:
			return nil, fmt.Errorf("%s: only filters and parsers can select entries", s)
		}
	}
	p, err := pipeline.Compile(sel.Stages, pipeline.Hints{Needed: []string{}})
	if err != nil {
		return nil, err
	}
	return &Selection{sel, p}, nil
}

// String returns the canonical text.
func (s *Selection) String() string { return s.selector.String() }

// Selector returns the query. It is not to be changed.
func (s *Selection) Selector() *syntax.LogSelector { return s.selector }

// Stream reports whether the selector matches a stream.
func (s *Selection) Stream(ls model.Labels) bool {
	for _, m := range s.selector.Matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Whole reports whether all entries of a stream that matches are selected.
func (s *Selection) Whole() bool { return len(s.selector.Stages) == 0 }

// ForStream returns what tells which rows of a stream that matches are selected.
func (s *Selection) ForStream(ls model.Labels) *Rows {
	r := &Rows{whole: s.Whole()}
	if !r.whole {
		r.stream = s.pipeline.ForStream(ls)
	}
	return r
}

// Rows tells which rows of one stream are selected. It is used by one goroutine.
type Rows struct {
	whole  bool
	stream *pipeline.Stream
	meta   []model.Label
}

// Match reports whether row i is selected.
func (r *Rows) Match(rows *model.Rows, i int) bool {
	if r.whole {
		return true
	}
	r.meta = r.meta[:0]
	// Later ones win: what was derived, as in queries.
	for _, set := range [2][]model.Column{rows.Metadata, rows.Derived} {
		for k := range set {
			if v := set[k].At(i); len(v) > 0 {
				r.meta = append(r.meta, model.Label{Name: set[k].Name, Value: unsafe.String(unsafe.SliceData(v), len(v))})
			}
		}
	}
	_, _, ok := r.stream.Process(rows.Times[i], rows.Lines.At(i), r.meta)
	return ok
}
