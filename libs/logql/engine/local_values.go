package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// valueOf returns the field of an unwrap's label, if a line has no more than one and
// none of the names of f, which are all others that are looked at, depends on it.
func valueOf(unwrap *syntax.Unwrap, extracted []syntax.Extraction, f *Fields) *FieldValue {
	v := &FieldValue{Label: unwrap.Name, Path: unwrap.Name, Parse: pipeline.Conversion(unwrap)}
	if plainName(v.Label) != v.Label || slices.Contains(f.Names, v.Label) {
		return nil
	}
	if len(extracted) == 0 {
		return v
	}
	i := slices.IndexFunc(extracted, func(x syntax.Extraction) bool { return x.Name == v.Label })
	if i < 0 || strings.ContainsAny(extracted[i].Path, ".[") {
		return nil
	}
	v.Path = extracted[i].Path
	for k, p := range f.Paths {
		if k != i && (extracted[k].Name == v.Label || plainName(p) == plainName(v.Path)) {
			return nil
		}
	}
	return v
}

// fieldCounterOf returns the snapshot that counts all rows of a session by their
// fields; nil: they have to be read.
func (s *localSession) fieldCounterOf(ctx context.Context, p *plan) FieldCounter {
	from, ok := s.snap.(Selective)
	if !ok || s.indexed == nil || p.fields == nil {
		return nil
	}
	n := &Need{Filters: p.filters, Any: p.pushed.matcher.Needles()}
	for _, m := range p.values {
		if !hasLabel(s.indexed, m.Name) {
			n.Values = append(n.Values, m)
		}
	}
	c, _ := from.Select(ctx, n).(FieldCounter)
	return c
}

// hasLabel reports whether a stream has a label.
func hasLabel(x Indexed, name string) bool {
	values, of := x.Values(name)
	if len(values) == 0 {
		return false
	}
	for i := range x.Extent().Streams {
		if of(i) > 0 {
			return true
		}
	}
	return false
}

// fieldSeries finds the series of rows by running the pipeline on one of them. It is
// used by one goroutine.
type fieldSeries struct {
	*wholeCounter
	session *localSession
	proc    *processor
	fields  *Fields
	matter  model.Labels   // of the stream
	known   map[string]int // by key, of streams with these labels that matter
	held    int            // bytes of known
	// Where samples have values: results are numbers of these.
	samples []fieldSample
	numbers map[fieldSample]int
}

type fieldSample struct {
	series uint32
	value  float64
}

// maxKnown is how many bytes of keys are kept.
const maxKnown = 4 << 20

// Begin implements FieldCounts.
func (f *fieldSeries) Begin(stream int) (same, valued bool) {
	labels := f.session.labelsOf(stream)
	matter := f.fields.ofStream(labels)
	if f.proc == nil {
		f.proc, f.matter = f.a.prog.forStream(labels), matter
	} else {
		f.proc.rebind(labels)
		if same = matter.Equal(f.matter); !same {
			f.matter = matter
			f.forget()
		}
	}
	v := f.fields.Value
	return same, v != nil && !slices.ContainsFunc(matter, func(l model.Label) bool { return strings.HasPrefix(v.Label, l.Name) })
}

// Series implements FieldCounts.
func (f *fieldSeries) Series(t int64, key []byte, line func() ([]byte, error)) (int, error) {
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

// Unordered implements FieldCounts.
func (f *fieldSeries) Unordered() bool {
	return f.a.fold == foldCount || f.a.fold == foldMin || f.a.fold == foldMax || f.a.fold == foldValues
}

// Add implements FieldCounts.
func (f *fieldSeries) Add(series, bucket, rows int) error {
	if f.a.fold == foldCount {
		return f.addTo(uint32(series), bucket, rows)
	}
	return f.AddValue(series, bucket, f.samples[series].value, rows)
}

// AddValue implements FieldCounts.
func (f *fieldSeries) AddValue(series, bucket int, value float64, rows int) error {
	a := f.a
	if a.fold == foldCount {
		return f.addTo(uint32(series), bucket, rows)
	}
	id := f.samples[series].series
	a.stats.RowsFiltered += uint64(rows)
	if a.fold == foldValues {
		return a.addValue(id, bucket, value, uint64(rows))
	}
	to, made := a.cells[id].at(bucket)
	for range rows { // as the sum of many is not a product
		a.fold.add(to, a.fold.one(value))
	}
	if made {
		return a.reserve(48)
	}
	return nil
}
