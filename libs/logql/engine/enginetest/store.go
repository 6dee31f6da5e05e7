// Package enginetest has a store in memory for tests of whatever runs queries.
package enginetest

import (
	"context"
	"io"
	"slices"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Entry is one row to store.
type Entry struct {
	Labels    model.Labels
	Time      int64
	Line      string
	Metadata  model.Labels
	Derived   model.Labels
	BatchTime int64
	Position  uint32
}

// Store is an engine.Store of entries that never change once it is made. An entry that
// is given twice is stored once, under its smallest key.
type Store struct {
	// RunRows is the most rows of a run; 0: a run holds all rows of a stream.
	RunRows int
	// BatchRows is the most rows that a reader gives out at once; 0: all.
	BatchRows int
	// NoDigests leaves the digests of runs 0: unknown.
	NoDigests bool
	// Applied are the ids of deletes that snapshots say were carried out.
	Applied []string
	// Selective makes snapshots implement engine.Selective.
	Selective bool
	// FailRows makes reading rows fail, if it returns an error.
	FailRows func() error
	// Open counts the snapshots that are not closed.
	open atomic.Int64

	streams []stream
}

type stream struct {
	labels model.Labels
	rows   model.Rows
}

// NewStore returns a store of entries.
func NewStore(entries ...Entry) *Store {
	byLabels := map[string][]Entry{}
	for _, e := range entries {
		k := e.Labels.String()
		byLabels[k] = append(byLabels[k], e)
	}
	s := &Store{}
	for _, es := range byLabels {
		s.streams = append(s.streams, newStream(es))
	}
	slices.SortFunc(s.streams, func(a, b stream) int { return a.labels.Compare(b.labels) })
	return s
}

func newStream(es []Entry) stream {
	type keyed struct {
		Entry
		key model.OrderKey
	}
	all := make([]keyed, len(es))
	for i, e := range es {
		rows := build([]Entry{e})
		all[i] = keyed{e, model.OrderKey{Time: e.Time, BatchTime: e.BatchTime, Position: e.Position, Hash: rows.Hash(0)}}
	}
	slices.SortFunc(all, func(a, b keyed) int { return a.key.Compare(b.key) })
	type identity struct {
		time           int64
		line, metadata string
	}
	seen := map[identity]bool{}
	var kept []Entry
	var hashes []uint64
	for _, e := range all {
		id := identity{e.Time, e.Line, e.Metadata.String()}
		if seen[id] {
			continue
		}
		seen[id] = true
		kept = append(kept, e.Entry)
		hashes = append(hashes, e.key.Hash)
	}
	rows := build(kept)
	rows.Hashes = hashes
	return stream{es[0].Labels, *rows}
}

func build(es []Entry) *model.Rows {
	r := &model.Rows{}
	for _, e := range es {
		r.Times = append(r.Times, e.Time)
		r.Lines.AppendString(e.Line)
		r.BatchTimes = append(r.BatchTimes, e.BatchTime)
		r.Positions = append(r.Positions, e.Position)
	}
	r.Metadata = columns(es, func(e Entry) model.Labels { return e.Metadata })
	r.Derived = columns(es, func(e Entry) model.Labels { return e.Derived })
	return r
}

func columns(es []Entry, labels func(Entry) model.Labels) []model.Column {
	var names []string
	for _, e := range es {
		for _, l := range labels(e) {
			if !slices.Contains(names, l.Name) {
				names = append(names, l.Name)
			}
		}
	}
	slices.Sort(names)
	var out []model.Column
	for _, n := range names {
		c := model.Column{Name: n}
		for i, e := range es {
			if v := labels(e).Get(n); v != "" {
				c.Append(i, []byte(v))
			}
		}
		c.Finish(len(es))
		out = append(out, c)
	}
	return out
}

// OpenSnapshots returns how many snapshots are not closed.
func (s *Store) OpenSnapshots() int { return int(s.open.Load()) }

// Open takes a snapshot.
func (s *Store) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Snapshot, error) {
	snap := &snapshot{store: s}
	for i := range s.streams {
		st := &s.streams[i]
		if slices.ContainsFunc(matchers, func(m *syntax.Matcher) bool { return !m.Matches(st.labels.Get(m.Name)) }) {
			continue
		}
		from, to := between(st.rows.Times, start, end)
		if from == to && (!engine.Spans(ctx) || from == 0 || from == len(st.rows.Times)) {
			continue
		}
		snap.streams = append(snap.streams, engine.Stream{Labels: st.labels, Runs: s.runs(&st.rows, from, to)})
		snap.data = append(snap.data, st)
	}
	snap.start, snap.end = start, end
	s.open.Add(1)
	if s.Selective {
		return &selective{snap}, nil
	}
	return snap, nil
}

func between(times []int64, start, end int64) (from, to int) {
	from, _ = slices.BinarySearch(times, start)
	to, _ = slices.BinarySearch(times, end)
	return from, max(from, to)
}

// runs cuts rows [from, to) into runs that do not touch.
func (s *Store) runs(r *model.Rows, from, to int) []engine.Run {
	var out []engine.Run
	for i := from; i < to; i++ {
		if i == from || (s.RunRows > 0 && out[len(out)-1].Rows >= uint64(s.RunRows) && r.Times[i] != r.Times[i-1]) {
			out = append(out, engine.Run{MinTime: r.Times[i]})
		}
		run := &out[len(out)-1]
		run.MaxTime = r.Times[i]
		run.Rows++
		run.Bytes += uint64(len(r.Lines.At(i)))
		if !s.NoDigests {
			run.Digest += r.Hashes[i]
		}
	}
	return out
}

type snapshot struct {
	store      *Store
	streams    []engine.Stream
	data       []*stream
	start, end int64
}

func (s *snapshot) Streams() []engine.Stream { return s.streams }

// Applied implements engine.Applied.
func (s *snapshot) Applied() []string { return s.store.Applied }

func (s *snapshot) Close() { s.store.open.Add(-1) }

func (s *snapshot) Rows(i int, start, end int64, backward bool) engine.RowReader {
	rows := &s.data[i].rows
	from, to := between(rows.Times, max(start, s.start), min(end, s.end))
	return &reader{s.store, rows, from, to, backward}
}

type reader struct {
	store    *Store
	rows     *model.Rows
	from, to int
	backward bool
}

func (r *reader) Next() (*model.Rows, int, int, error) {
	if r.store.FailRows != nil {
		if err := r.store.FailRows(); err != nil {
			return nil, 0, 0, err
		}
	}
	if r.from == r.to {
		return nil, 0, 0, io.EOF
	}
	n := r.to - r.from
	if r.store.BatchRows > 0 {
		n = min(n, r.store.BatchRows)
	}
	if r.backward {
		r.to -= n
		return r.rows, r.to, r.to + n, nil
	}
	r.from += n
	return r.rows, r.from - n, r.from, nil
}
