package enginetest

import (
	"bytes"
	"context"
	"slices"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// selective is a snapshot that does whatever a Need allows, the plain way.
type selective struct{ *snapshot }

// Select implements engine.Selective.
func (s *selective) Select(_ context.Context, n *engine.Need) engine.Snapshot {
	var stages []syntax.Stage
	for _, f := range n.Filters {
		stages = append(stages, f)
	}
	p, err := pipeline.Compile(stages, pipeline.Hints{})
	if err != nil {
		panic(err) // the engine compiles them first
	}
	return &selected{s.snapshot, n, p.Filter()}
}

// HasMetadata reports whether any row has metadata of the name.
func (s *selective) HasMetadata(name string) bool {
	return slices.ContainsFunc(s.data, func(st *stream) bool {
		named := func(c model.Column) bool { return c.Name == name }
		return slices.ContainsFunc(st.rows.Metadata, named) || slices.ContainsFunc(st.rows.Derived, named)
	})
}

type selected struct {
	*snapshot
	need  *engine.Need
	lines *pipeline.LineMatcher
}

func (s *selected) Rows(i int, start, end int64, backward bool) engine.RowReader {
	return &selectedReader{RowReader: s.snapshot.Rows(i, start, end, backward), s: s}
}

type selectedReader struct {
	engine.RowReader
	s           *selected
	rows, bytes uint64
}

// Examined implements engine.Examiner.
func (r *selectedReader) Examined() (rows, bytes uint64) { return r.rows, r.bytes }

func (r *selectedReader) Next() (*model.Rows, int, int, error) {
	in, from, to, err := r.RowReader.Next()
	if err != nil {
		return nil, 0, 0, err
	}
	n := r.s.need
	var es []Entry
	var hashes []uint64
	for i := from; i < to; i++ {
		line := in.Lines.At(i)
		r.rows++
		r.bytes += uint64(len(line))
		if !r.s.wants(in, i) {
			continue
		}
		es = append(es, Entry{
			Time: in.Times[i], Line: string(line), BatchTime: in.BatchTimes[i], Position: in.Positions[i],
			Metadata: in.AppendMetadata(nil, i), Derived: in.AppendDerived(nil, i),
		})
		hashes = append(hashes, in.Hashes[i])
	}
	out := build(es)
	if !n.Lines {
		out.Lines = model.Strings{}
	} else if n.Lengths && !n.Hashes {
		out.Lines.Slab = make([]byte, len(out.Lines.Slab))
	}
	if !n.Meta {
		out.Metadata, out.Derived = nil, nil
	}
	if n.Names != nil {
		other := func(c model.Column) bool { return !slices.Contains(n.Names, c.Name) }
		out.Metadata, out.Derived = slices.DeleteFunc(out.Metadata, other), slices.DeleteFunc(out.Derived, other)
	}
	if n.Hashes && !n.Lines {
		out.Hashes = hashes
	}
	return out, 0, out.Len(), nil
}

func (s *selected) wants(in *model.Rows, i int) bool {
	line := in.Lines.At(i)
	if !s.lines.Match(line) {
		return false
	}
	for _, any := range s.need.Any {
		if !slices.ContainsFunc(any, func(t string) bool { return bytes.Contains(line, []byte(t)) }) {
			return false
		}
	}
	meta := append(in.AppendMetadata(nil, i), in.AppendDerived(nil, i)...)
	for _, m := range s.need.Values {
		if !slices.Contains(meta, model.Label(m)) && !bytes.Contains(line, []byte(m.Value)) && !bytes.Contains(line, []byte{'\\'}) {
			return false
		}
	}
	for _, m := range s.need.Metadata {
		if !slices.Contains(meta, model.Label(m)) {
			return false
		}
	}
	return true
}
