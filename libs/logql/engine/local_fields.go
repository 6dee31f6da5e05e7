package engine

import (
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
	// Value is the field whose value is the sample's; nil: there is none that nothing
	// else depends on.
	Value *FieldValue
}

// FieldValue is a field at the top of lines that an unwrap takes the value of samples
// from, if nothing but this value depends on it.
type FieldValue struct {
	Label, Path string // Path is the field's name in the line
	// Parse is what becomes of the field's text, which is not empty.
	Parse func(text string) (float64, error)
}

// Key reports whether a field may matter to anything but the Value.
func (f *Fields) Key(path string) bool {
	if f.Value == nil {
		return f.Matters(path)
	}
	name := plainName(path)
	if f.Paths != nil {
		return name != plainName(f.Value.Path) && f.Matters(path)
	}
	return slices.ContainsFunc(f.Names, func(n string) bool { return n != f.Value.Label && strings.HasPrefix(plainName(n), name) })
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

// FieldCounts is what a FieldCounter needs. What it calls a series is a number that
// stands for one, and for a value if there is one.
type FieldCounts interface {
	// Begin goes on to the rows of a stream. same: what is known of rows by their keys
	// holds for the stream before and for this one; valued: the field that is
	// Fields.Value decides about the value and about nothing else.
	Begin(stream int) (same, valued bool)
	// Series returns the series that a row belongs to; -1: none. Rows whose fields that
	// matter are equal have equal keys; nil: nothing is known of the row's. line returns
	// the row's line, or one that has the same fields that matter.
	Series(t int64, key []byte, line func() ([]byte, error)) (int, error)
	// Bucket is as Counter.Count has it.
	Bucket(t int64) (bucket int, last int64)
	// Add counts rows of a series in a bucket.
	Add(series, bucket, rows int) error
	// AddValue adds rows that have a value, which is not that of the series' number.
	AddValue(series, bucket int, value float64, rows int) error
	// Unordered reports whether it does not matter to AddValue in which order values
	// come, nor how many at once.
	Unordered() bool
}

// fieldsOf returns what stages, behind line filters, look at; nil: more than fields.
func fieldsOf(stages []syntax.Stage, unwrap *syntax.Unwrap, group []string) *Fields {
	f := &Fields{Names: slices.Clone(group)}
	if unwrap != nil {
		for _, l := range unwrap.Filters {
			f.Names = condNames(l.Cond, f.Names)
		}
	}
	parsers := 0
	ok := true
	var extracted []syntax.Extraction
	for _, s := range stages {
		switch s := s.(type) {
		case *syntax.LabelFilter:
			f.Names = condNames(s.Cond, f.Names)
		case *syntax.JSON:
			parsers++
			f.JSON = true
			f.Paths, ok = topNames(s.Extractions)
			extracted = s.Extractions
		case *syntax.Logfmt:
			parsers++
			if f.Paths, ok = topNames(s.Extractions); s.Strict {
				return nil
			}
			extracted = s.Extractions
		default:
			return nil
		}
		if !ok {
			return nil
		}
	}
	if unwrap != nil {
		f.Value = valueOf(unwrap, extracted, f)
		f.Names = append(f.Names, unwrap.Name)
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
