package engine

import (
	"context"
	"runtime"
	"slices"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Local makes a source of a store: it runs pipelines and partial aggregates over
// the store's rows, on as many goroutines as there are cores.
func Local(store Store, name string) Source { return &local{store, name} }

type local struct {
	store Store
	name  string
}

func (l *local) Name() string { return l.name }

func (l *local) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (Session, error) {
	snap, err := l.store.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	s := &localSession{source: l, matchers: matchers, snap: snap, start: start, end: end, workers: runtime.GOMAXPROCS(0)}
	s.held.mem = memoryOf(ctx)
	if s.indexed, _ = snap.(Indexed); s.indexed != nil {
		s.held.claim(numberOfStream * s.indexed.Extent().Streams)
	}
	if g, ok := snap.(interface{ Gaps() []string }); ok {
		s.gaps = g.Gaps()
	}
	if x := exclusionsOf(ctx); x != nil {
		if due := x.x.due(snap); !s.spared(x.x, due) {
			s.indexed = nil
			s.list()
			if err := s.exclude(x, due); err != nil {
				s.Close()
				return nil, err
			}
		}
	}
	return s, nil
}

// numberOfStream is what a snapshot that is Indexed takes of each stream, in bytes.
const numberOfStream = 12

type localSession struct {
	source     *local
	matchers   []*syntax.Matcher
	snap       Snapshot
	indexed    Indexed  // snap, if it is and no row is left out
	streams    []Stream // once list was called
	listed     bool
	gaps       []string
	start, end int64
	workers    int
	held       holder // for the list
	// If rows are left out: the numbers of streams in snap, and what of each.
	numbers  []int
	excluded []*exclusion
}

func (s *localSession) Streams() []Stream { return s.list() }
func (s *localSession) Gaps() []string    { return s.gaps }

func (s *localSession) Close() error {
	s.snap.Close()
	s.held.release()
	return nil
}

// list makes the list of streams, which what reads stream by stream needs. It is whole also
// if that is more than the query may hold, which then ends. What is not Indexed has a list,
// and has counted it when it was opened.
func (s *localSession) list() []Stream {
	if !s.listed {
		s.streams, s.listed = s.snap.Streams(), true
		if _, made := s.snap.(Indexed); made {
			s.held.claim(listSize(s.streams))
		}
	}
	return s.streams
}

// extent implements whole.
func (s *localSession) extent() (Extent, bool) {
	if s.indexed == nil {
		return Extent{}, false
	}
	e := s.indexed.Extent()
	e.MinTime, e.MaxTime = max(e.MinTime, s.start), min(e.MaxTime, s.end-1)
	if e.MinTime > e.MaxTime {
		e.Streams = 0
	}
	return e, true
}

// count returns how many streams there are.
func (s *localSession) count() int {
	if s.listed || s.indexed == nil {
		return len(s.list())
	}
	return s.indexed.Extent().Streams
}

// runsOf returns the runs of a stream, which are shared or in a buffer.
func (s *localSession) runsOf(buf *[]Run, stream int) []Run {
	if s.listed {
		return s.streams[stream].Runs
	}
	*buf = s.indexed.AppendRuns((*buf)[:0], stream)
	return *buf
}

// labelsOf implements whole.
func (s *localSession) labelsOf(stream int) model.Labels {
	if s.listed {
		return s.streams[stream].Labels
	}
	return s.indexed.Labels(stream)
}

// task is the rows of a stream within some ranges of time, which ascend.
type task struct {
	stream int
	ranges []TimeRange
}

// taskSize is the bytes of a task of one range.
const taskSize = int(unsafe.Sizeof(task{}) + unsafe.Sizeof(TimeRange{}))

// allTasks are tasks for all rows of n streams.
func allTasks(n int, start, end int64) []task {
	out := make([]task, n)
	ranges := make([]TimeRange, n)
	for i := range out {
		ranges[i] = TimeRange{start, end}
		out[i] = task{i, ranges[i : i+1 : i+1]}
	}
	return out
}

// tasksOf turns what a request asks for, of a session of n streams, into one task
// a stream, clipped to start <= t < end.
func tasksOf(n int, streams []int, ranges []TimeRange, start, end int64) ([]task, error) {
	if streams == nil {
		return allTasks(n, start, end), nil
	}
	if ranges != nil && len(ranges) != len(streams) {
		return nil, Errorf(ErrUser, "%d ranges for %d streams", len(ranges), len(streams))
	}
	out := make([]task, 0, len(streams))
	all := make([]TimeRange, 0, len(streams)) // so that those of a task lie together
	for i, st := range streams {
		if st < 0 || st >= n || (i > 0 && st < streams[i-1]) {
			return nil, Errorf(ErrUser, "stream %d is out of place or does not exist", st)
		}
		r := TimeRange{start, end}
		if ranges != nil {
			r = TimeRange{max(start, ranges[i].Start), min(end, ranges[i].End)}
		}
		if r.Start >= r.End {
			continue
		}
		all = append(all, r)
		if n := len(out); n > 0 && out[n-1].stream == st {
			out[n-1].ranges = all[len(all)-1-len(out[n-1].ranges) : len(all) : len(all)]
			continue
		}
		out = append(out, task{st, all[len(all)-1 : len(all) : len(all)]})
	}
	return out, nil
}

func (s *localSession) tasks(streams []int, ranges []TimeRange, start, end int64) ([]task, error) {
	tasks, err := tasksOf(s.count(), streams, ranges, max(start, s.start), min(end, s.end))
	if err == nil {
		err = s.held.mem.Err()
	}
	if err != nil || s.excluded == nil {
		return tasks, err
	}
	for i := range tasks {
		tasks[i].ranges = s.excluded[tasks[i].stream].left(tasks[i].ranges)
	}
	return slices.DeleteFunc(tasks, func(t task) bool { return len(t.ranges) == 0 }), nil
}

// rowSource walks the rows of a task batch by batch.
type rowSource struct {
	snap     Snapshot
	stream   int
	ranges   []TimeRange // those not begun
	backward bool
	first    int // rows that may be enough; 0: that is not known
	reader   RowReader
	examiner Examiner  // reader, if it is one
	told     ScanStats // what examiner has told
	excluder *excluder // nil: no row is left out
	rows     *model.Rows
	from, to int // of rows that excluder has not seen
}

// next returns the next batch; rows is nil at the end. It adds to stats what the
// rows cost, if the reader knows that better than their receiver.
func (r *rowSource) next(stats *ScanStats) (rows *model.Rows, from, to int, err error) {
	if r.excluder == nil {
		return r.batch(stats)
	}
	for {
		if r.from < r.to {
			from, to, r.from, r.to = r.excluder.next(r.rows, r.from, r.to, r.backward)
			if from < to {
				return r.rows, from, to, nil
			}
			continue
		}
		if r.rows, r.from, r.to, err = r.batch(stats); err != nil || r.rows == nil {
			return nil, 0, 0, err
		}
	}
}

func (r *rowSource) batch(stats *ScanStats) (rows *model.Rows, from, to int, err error) {
	for {
		if r.reader == nil {
			if len(r.ranges) == 0 {
				return nil, 0, 0, nil
			}
			var tr TimeRange
			if n := len(r.ranges) - 1; r.backward {
				tr, r.ranges = r.ranges[n], r.ranges[:n]
			} else {
				tr, r.ranges = r.ranges[0], r.ranges[1:]
			}
			r.reader = r.snap.Rows(r.stream, tr.Start, tr.End, r.backward)
			r.examiner, _ = r.reader.(Examiner)
			if s, ok := r.reader.(Sparing); ok && r.first > 0 {
				s.First(r.first)
			}
			r.told = ScanStats{}
		}
		rows, from, to, err = r.reader.Next()
		if r.examiner != nil {
			var now ScanStats
			now.RowsRead, now.BytesRead = r.examiner.Examined()
			stats.Add(now.minus(r.told))
			r.told = now
		}
		if isEOF(err) {
			r.reader = nil
			continue
		}
		if err != nil || from < to {
			return rows, from, to, err
		}
	}
}

// read counts rows that were taken, unless next did.
func (r *rowSource) read(stats *ScanStats, rows *model.Rows, from, to int, lines bool) {
	if r.examiner != nil {
		return
	}
	stats.RowsRead += uint64(to - from)
	if lines {
		stats.BytesRead += lineBytes(rows, from, to)
	}
}

// lineOf returns the line of a row, or nothing if lines were left out.
func lineOf(rows *model.Rows, row int) []byte {
	if rows.Lines.Ends == nil {
		return nil
	}
	return rows.Lines.At(row)
}

// metaReader reads the structured metadata of rows: what was sent and what was
// derived, which wins where both have a name.
type metaReader struct {
	buf []model.Label
}

// at returns the metadata of a row, ascending by name. It aliases rows and is
// valid until the next call. size is its bytes.
func (m *metaReader) at(rows *model.Rows, row int) (labels []model.Label, size int) {
	m.buf = m.buf[:0]
	a, b := rows.Metadata, rows.Derived
	for len(a) > 0 || len(b) > 0 {
		var c *model.Column
		switch {
		case len(b) == 0 || (len(a) > 0 && a[0].Name < b[0].Name):
			c, a = &a[0], a[1:]
		default:
			c = &b[0]
			if len(a) > 0 && a[0].Name == b[0].Name {
				if len(c.At(row)) == 0 {
					c = &a[0]
				}
				a = a[1:]
			}
			b = b[1:]
		}
		if v := c.At(row); len(v) > 0 {
			m.buf = append(m.buf, model.Label{Name: c.Name, Value: alias(v)})
			size += len(c.Name) + len(v)
		}
	}
	return m.buf, size
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
