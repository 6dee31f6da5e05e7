// Package pipeline runs the stages of a LogQL log query over rows. It is pure.
//
// Compile turns stages into a Pipeline, which is immutable and may be shared.
// ForStream binds it to the labels of one stream; a Stream is used by one
// goroutine at a time and reuses its buffers, so that filters and parsers do not
// allocate per row.
package pipeline

import (
	"time"

	"github.com/weir-logs/weir/libs/model"
)

// Hints tell Compile about the use of a pipeline.
type Hints struct {
	// Needed names the labels that are read after the pipeline; nil: any may be.
	// Parsers leave out what nobody reads. All else is as without: a parser still
	// finds the errors of a line.
	Needed []string
	// Now is the present for the template functions now and date; nil: the time of
	// the row. It must be safe for concurrent use.
	Now func() time.Time
}

// Pipeline is the compiled form of stages. It is safe for concurrent use.
type Pipeline struct {
	prog  program
	first *LineMatcher
}

// program is what streams need of a pipeline.
type program struct {
	stages []stage
	slots  []string                // names that stages read or set
	checks map[string][]earlyCheck // filters that are applied as soon as a label is extracted
	// needs[i] are the names that parser i has to set; nil: all. Parsers beyond 63
	// set all.
	needs []map[string]bool
	now   func() time.Time
}

type stage interface {
	// run does the stage's work on the row. It returns the line that the row has
	// behind the stage and whether the row is kept.
	run(st *Stream, line []byte) ([]byte, bool)
}

// earlyCheck is a label filter at stage at, which parsers between stage after and
// that apply to the label when they extract it.
type earlyCheck struct {
	after, at int
	cond      valueCondition
}

// parser is the part that all parsers share.
type parser struct {
	at     int // place among the stages
	number int // among the parsers
	idle   bool
}

func (p *parser) needs(info *nameInfo) bool { return info.needed>>min(p.number, 63)&1 != 0 }

// set sets a label. It returns false if a filter that follows would remove the row.
func (p *parser) set(st *Stream, info *nameInfo, value string) bool {
	st.set.set(info, value)
	for _, c := range info.checks {
		if c.after < p.at && p.at < c.at && !c.cond.accepts(st, value) {
			return false
		}
	}
	return true
}

func (p *program) needMask(name string) uint64 {
	mask := ^uint64(0)
	for i, n := range p.needs {
		if i < 63 && n != nil && !n[name] {
			mask &^= 1 << i
		}
	}
	return mask
}

// Filter returns the line filters that can be applied to the stored lines before
// anything else is known of a row: all that do not stand behind a stage that
// changes the line.
func (p *Pipeline) Filter() *LineMatcher { return p.first }

// Pure reports whether the pipeline is nothing but its Filter, so that neither
// the line nor the labels change.
func (p *Pipeline) Pure() bool { return len(p.prog.stages) == 0 }

// Stream is a Pipeline bound to one stream. Not safe for concurrent use.
type Stream struct {
	p     *Pipeline
	ts    int64
	set   LabelSet
	arena arena
	// Scratch of stages.
	values  map[string]string
	labels  []model.Label
	results []rendered
	pairs   []parsedLabel
	found   []byte
	path    []byte
	before  []model.Label // see SetParsed
}

// ForStream binds the pipeline to a stream's labels, which are kept.
func (p *Pipeline) ForStream(labels model.Labels) *Stream {
	st := &Stream{p: p}
	st.set.init(&p.prog, labels)
	return st
}

// Rebind binds the Stream to the labels of another stream, which are kept. That is
// cheap where both have labels of the same names.
func (s *Stream) Rebind(labels model.Labels) {
	if !s.set.rebind(labels) {
		s.set.orderFor = s.set.orderFor[:0]
	}
}

// Process runs one row. line and meta are only read, and have to stay as they are
// until the next call. The returned line and labels are valid until then; they
// may alias line and meta. Of meta, later entries of a name win, and none has the
// value "". If ok is false, the row is not part of the result.
func (s *Stream) Process(ts int64, line []byte, meta []model.Label) (out []byte, labels *LabelSet, ok bool) {
	if !s.p.first.Match(line) {
		return nil, nil, false
	}
	return s.ProcessFiltered(ts, line, meta)
}

// ProcessFiltered is Process for a line that is known to match the pipeline's Filter.
func (s *Stream) ProcessFiltered(ts int64, line []byte, meta []model.Label) (out []byte, labels *LabelSet, ok bool) {
	s.arena.reset()
	s.ts = ts
	s.set.begin()
	s.set.setMeta(meta)
	if len(s.before) > 0 {
		s.set.setParsed(s.before)
	}
	for _, stage := range s.p.prog.stages {
		if line, ok = stage.run(s, line); !ok {
			return nil, nil, false
		}
	}
	return line, &s.set, true
}
