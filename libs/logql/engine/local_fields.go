package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Fields is which fields of lines a query looks at: those that one parser stage makes
// labels of, to compare them or to group by them.
type Fields struct {
	JSON bool // else logfmt
	// Names are the labels that matter, those of streams and metadata included.
	Names []string
	// Paths are the names of the fields at the top that the stage takes out; nil: all
	// become labels, named as their path.
	Paths []string
}

// Matters reports whether a field may matter. Names within others follow on those with
// an underscore. It errs on the side of true.
func (f *Fields) Matters(path string) bool {
	name := plainName(path)
	for _, p := range f.Paths {
		if p = plainName(p); p == name {
			return true
		}
	}
	return f.Paths == nil && slices.ContainsFunc(f.Names, func(n string) bool { return strings.HasPrefix(plainName(n), name) })
}

// ofStream returns the labels of a stream that may matter: those of names that are
// looked at, and those that rename what collides with them.
func (f *Fields) ofStream(labels model.Labels) (out model.Labels) {
	for _, l := range labels {
		if slices.ContainsFunc(f.Names, func(n string) bool { return strings.HasPrefix(n, l.Name) }) {
			out = append(out, l)
		}
	}
	return out
}

// plainName is a name as whatever makes labels of names may have it.
func plainName(s string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r < 0x80 && (r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, s), "_")
}

// ErrFields tells that a FieldCounter cannot count the rows of a part.
var ErrFields = errors.New("fields do not decide alone")

// FieldCounter is an Indexed snapshot, as Select returns it, that counts rows by what
// their fields make of them, as Counter counts all.
type FieldCounter interface {
	Counter
	// CountFields counts the rows of a part by series. It may ask for the series of one
	// row for many: all whose fields that matter are equal. With ErrFields what was
	// counted before is void.
	CountFields(part int, f *Fields, c FieldCounts) (rows, bytes uint64, err error)
}

// FieldCounts is what a FieldCounter needs.
type FieldCounts interface {
	// Series returns the series that a row belongs to; -1: none. Rows of a stream whose
	// fields that matter are equal have equal keys; nil: nothing is known of the row's.
	Series(stream int, t int64, key []byte, line func() ([]byte, error)) (int, error)
	// Bucket is as Counter.Count has it.
	Bucket(t int64) (bucket int, last int64)
	// Add counts rows of a series in a bucket.
	Add(series, bucket, rows int) error
}

// fieldsOf returns what stages, behind line filters, look at; nil: more than fields.
func fieldsOf(stages []syntax.Stage, unwrap *syntax.Unwrap, group []string) *Fields {
	f := &Fields{Names: slices.Clone(group)}
	if unwrap != nil {
		f.Names = append(f.Names, unwrap.Name)
		for _, l := range unwrap.Filters {
			f.Names = condNames(l.Cond, f.Names)
		}
	}
	parsers := 0
	ok := true
	for _, s := range stages {
		switch s := s.(type) {
		case *syntax.LabelFilter:
			f.Names = condNames(s.Cond, f.Names)
		case *syntax.JSON:
			parsers++
			f.JSON = true
			f.Paths, ok = topNames(s.Extractions)
		case *syntax.Logfmt:
			parsers++
			if f.Paths, ok = topNames(s.Extractions); s.Strict {
				return nil
			}
		default:
			return nil
		}
		if !ok {
			return nil
		}
	}
	if parsers != 1 || slices.ContainsFunc(f.Names, func(n string) bool { return n == "" || strings.HasPrefix(n, "__error") }) {
		return nil
	}
	return f
}

// topNames returns the fields at the top that extractions look into.
func topNames(all []syntax.Extraction) (names []string, ok bool) {
	for _, x := range all {
		n := x.Path
		if i := strings.IndexAny(n, ".["); i >= 0 {
			n = n[:i]
		}
		if n == "" || plainName(n) != strings.TrimLeft(n, "_") {
			return nil, false
		}
		names = append(names, n)
	}
	return names, true
}

// condNames appends the names that a condition looks at.
func condNames(c syntax.Condition, dst []string) []string {
	switch c := c.(type) {
	case *syntax.LogicalCond:
		return condNames(c.Right, condNames(c.Left, dst))
	case *syntax.StringCond:
		return append(dst, c.Name)
	case *syntax.NumberCond:
		return append(dst, c.Name)
	case *syntax.DurationCond:
		return append(dst, c.Name)
	case *syntax.BytesCond:
		return append(dst, c.Name)
	case *syntax.IPCond:
		return append(dst, c.Name)
	}
	return append(dst, "") // unknown
}

// fieldCounterOf returns the snapshot that counts all rows of a session by their
// fields; nil: they have to be read.
func (s *localSession) fieldCounterOf(ctx context.Context, p *plan) FieldCounter {
	from, ok := s.snap.(Selective)
	if !ok || s.indexed == nil || p.fields == nil {
		return nil
	}
	c, _ := from.Select(ctx, &Need{Filters: p.filters, Any: p.pushed.matcher.Needles()}).(FieldCounter)
	return c
}

// fieldSeries finds the series of rows by running the pipeline on one of them. It is
// used by one goroutine.
type fieldSeries struct {
	*wholeCounter
	session *localSession
	proc    *processor
	stream  int
	fields  *Fields
	matter  model.Labels   // of the stream
	known   map[string]int // by key, of streams with these labels that matter
	held    int            // bytes of known
	// Of sums: results are numbers of these.
	samples []fieldSample
	numbers map[fieldSample]int
}

type fieldSample struct {
	series uint32
	value  float64
}

// maxKnown is how many bytes of keys are kept.
const maxKnown = 4 << 20

// Series implements FieldCounts.
func (f *fieldSeries) Series(stream int, t int64, key []byte, line func() ([]byte, error)) (int, error) {
	if f.proc == nil {
		labels := f.session.labelsOf(stream)
		f.proc, f.stream, f.matter = f.a.prog.forStream(labels), stream, f.fields.ofStream(labels)
	}
	if f.stream != stream {
		labels := f.session.labelsOf(stream)
		f.proc.rebind(labels)
		f.stream = stream
		if matter := f.fields.ofStream(labels); !matter.Equal(f.matter) {
			f.matter = matter
			f.forget()
		}
	}
	if key == nil {
		l, err := line()
		if err != nil {
			return 0, err
		}
		return f.run(t, l)
	}
	if n, ok := f.known[string(key)]; ok {
		return n, nil
	}
	l, err := line()
	if err != nil {
		return 0, err
	}
	n, err := f.run(t, l)
	if err != nil {
		return 0, err
	}
	size := len(key) + 64
	if f.held+size > maxKnown {
		f.forget()
	}
	if err := f.a.reserve(size); err != nil {
		return 0, err
	}
	f.held += size
	if f.known == nil {
		f.known = map[string]int{}
	}
	f.known[string(key)] = n
	return n, nil
}

func (f *fieldSeries) forget() {
	clear(f.known)
	f.a.mem.Release(f.held)
	f.a.held -= f.held
	f.held = 0
}

// run runs the pipeline on a line.
func (f *fieldSeries) run(t int64, line []byte) (int, error) {
	a := f.a
	if !f.proc.matches(line) {
		return -1, nil
	}
	_, value, ok := f.proc.process(t, line, nil)
	if !ok {
		return -1, nil
	}
	if f.proc.failed() != nil {
		return 0, ErrFields // reading the rows tells which
	}
	a.buf = f.proc.appendSeries(a.buf[:0])
	id, err := a.seriesOf(a.buf)
	if err != nil || a.fold == foldCount {
		return int(id), err
	}
	s := fieldSample{id, value}
	n, ok := f.numbers[s]
	if !ok || value != value {
		if err := a.reserve(64); err != nil {
			return 0, err
		}
		n = len(f.samples)
		f.samples = append(f.samples, s)
		if f.numbers == nil {
			f.numbers = map[fieldSample]int{}
		}
		f.numbers[s] = n
	}
	return n, nil
}

// Bucket implements FieldCounts.
func (f *fieldSeries) Bucket(t int64) (int, int64) { return f.a.grid.bucket(t) }

// Add implements FieldCounts.
func (f *fieldSeries) Add(series, bucket, rows int) error {
	if f.a.fold == foldCount {
		return f.addTo(uint32(series), bucket, rows)
	}
	s := f.samples[series]
	f.a.stats.RowsFiltered += uint64(rows)
	for range rows { // as the sum of many is not a product
		if err := f.a.addTo(s.series, bucket, f.a.fold.one(s.value)); err != nil {
			return err
		}
	}
	return nil
}
