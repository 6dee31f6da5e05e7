package pipeline

import (
	"fmt"
	"strconv"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Extractor turns rows into samples: 1, the bytes of the line as the pipeline
// left it, or the unwrapped label. It is safe for concurrent use.
type Extractor struct {
	p       *Pipeline
	bytes   bool
	unwrap  int // slot, -1: none
	convert func(string) (float64, error)
	filters []condition
}

// CompileExtractor compiles the selector of a range aggregation. bytes asks for
// the length of lines instead of their number; unwrap, if not nil, for a label's
// value. hints.Needed are the labels that a grouping names. Errors are as of Compile.
func CompileExtractor(stages []syntax.Stage, unwrap *syntax.Unwrap, bytes bool, hints Hints) (*Extractor, error) {
	c := newCompiler(hints)
	if err := c.compile(stages); err != nil {
		return nil, err
	}
	e := &Extractor{p: c.p, bytes: bytes, unwrap: -1}
	needed := hints.Needed
	if unwrap != nil {
		e.unwrap = c.slot(unwrap.Name)
		e.convert = Conversion(unwrap)
		reads := []string{unwrap.Name}
		for _, f := range unwrap.Filters {
			cond, err := compileCondition(f.Cond, c.slot)
			if err != nil {
				return nil, syntax.StageError(f, err)
			}
			e.filters = append(e.filters, cond)
			reads = append(reads, syntaxNames(f.Cond)...)
		}
		if needed != nil {
			needed = append(reads, needed...)
		}
	}
	c.need(needed)
	return e, nil
}

// Conversion returns what an unwrap makes of the text of its label, if that is not
// empty.
func Conversion(unwrap *syntax.Unwrap) func(text string) (float64, error) {
	switch unwrap.Conversion {
	case syntax.ConvertBytes:
		return func(s string) (float64, error) {
			n, err := ParseBytes(s)
			return float64(n), err
		}
	case syntax.ConvertDuration, syntax.ConvertDurationSeconds:
		return func(s string) (float64, error) {
			d, err := time.ParseDuration(s)
			return d.Seconds(), err
		}
	}
	return func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
}

// Filter is Pipeline.Filter.
func (e *Extractor) Filter() *LineMatcher { return e.p.first }

// Pure reports whether labels do not change and, but for its length, the line
// does not matter to rows that pass the Filter.
func (e *Extractor) Pure() bool { return e.p.Pure() && e.unwrap < 0 }

// SampleStream is an Extractor bound to one stream. Not safe for concurrent use.
type SampleStream struct {
	e  *Extractor
	st *Stream
}

// ForStream binds the extractor to a stream's labels, which are kept.
func (e *Extractor) ForStream(labels model.Labels) *SampleStream {
	return &SampleStream{e, e.p.ForStream(labels)}
}

// Rebind is that of Stream.
func (s *SampleStream) Rebind(labels model.Labels) { s.st.Rebind(labels) }

// Process extracts the sample of a row. Arguments and labels are as in
// Stream.Process; AppendGroup gives the labels of the sample's series. If
// labels.Err() is not "", the sample makes the query fail with PipelineError. If
// ok is false, the row has no sample.
func (s *SampleStream) Process(ts int64, line []byte, meta []model.Label) (value float64, labels *LabelSet, ok bool) {
	if !s.e.p.first.Match(line) {
		return 0, nil, false
	}
	return s.ProcessFiltered(ts, line, meta)
}

// ProcessFiltered is Process for a line that is known to match the Filter.
func (s *SampleStream) ProcessFiltered(ts int64, line []byte, meta []model.Label) (value float64, labels *LabelSet, ok bool) {
	line, labels, ok = s.st.ProcessFiltered(ts, line, meta)
	switch {
	case !ok:
		return 0, nil, false
	case s.e.unwrap < 0 && s.e.bytes:
		return float64(len(line)), labels, true
	case s.e.unwrap < 0:
		return 1, labels, true
	}
	info := labels.slots[s.e.unwrap]
	text, _ := labels.get(info)
	if text == "" {
		return 0, nil, false
	}
	value, err := s.e.convert(text)
	if err != nil {
		value = 0
		labels.setErr(ErrSampleExtraction, err.Error())
	}
	for _, f := range s.e.filters {
		if !f.keep(s.st) {
			return 0, nil, false
		}
	}
	labels.unwrapped = info
	return value, labels, true
}

// PipelineError is how a metric query fails on a sample with an error.
type PipelineError struct {
	Kind   string       // the value of __error__
	Series model.Labels // all labels, ungrouped, unwrapped and error labels included
}

// NewPipelineError makes the error of a sample for which labels.Err() is not "".
func NewPipelineError(labels *LabelSet) *PipelineError {
	return &PipelineError{labels.errKind, Clone(labels.Append(nil))}
}

// Error returns Loki's text.
func (e *PipelineError) Error() string {
	return fmt.Sprintf("pipeline error: '%s' for series: '%s'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"%s\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n",
		e.Kind, e.Series, e.Kind)
}
