package compact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

// Stream is a stream of a block, with all of its runs.
type Stream struct {
	Labels model.Labels
	Runs   []block.Run
}

// Source is a block that is to be merged. Only one goroutine uses it.
type Source interface {
	// ID of the block.
	ID() catalog.ID
	// Streams are the block's streams in its order.
	Streams() []Stream
	// Each yields all rows, or more than that, with start <= time < end, in the
	// block's order: the streams one after the other, their rows ascending by
	// order key, as rows [from, to) of a batch that may hold other streams', too.
	// They are valid until yield returns. A stream of which skip is true may be left
	// out.
	Each(ctx context.Context, start, end int64, skip func(stream int) bool, yield func(ls model.Labels, rows *model.Rows, from, to int) error) error
}

// Writer takes the rows of a result: streams ascending by the order of blocks, the
// rows of a stream ascending by order key. It keeps nothing of rows after Add.
type Writer interface {
	Add(ls model.Labels, rows *model.Rows) error
}

// Remover is a reason for which rows are left out: a delete, or retention.
type Remover interface {
	// Name identifies it.
	Name() string
	// ForStream returns what tells which rows of a stream are left out; nil: none.
	ForStream(ls model.Labels) RowRemover
}

// RowRemover tells which rows of a stream are left out.
type RowRemover interface {
	Remove(rows *model.Rows, i int) bool
}

// Merge is a merge of blocks into one or several, each with a part of the rows by
// time. Run makes one part after the other; Prove then says whether all is well.
type Merge struct {
	sources []Source
	removes []Remover
	compare func(a, b model.Labels) int
	// fix drops batch times: the order is that of the rows.
	fix bool

	streams []model.Labels // of all sources, ascending
	index   [][]uint32     // per source: of its streams, the index in streams
	ledger  []balance      // by stream
	skips   []map[int][]block.Run

	announced []block.Run // the runs that are taken over at a time

	removed map[string]uint64
	report  Report
}

// Report is what a merge did.
type Report struct {
	RowsIn, RowsOut, Copies, Removed uint64
}

// balance is a stream's rows, by count and digest: what came in, what went out.
type balance struct {
	in, out, copies, removed sum
}

type sum struct {
	rows, digest uint64
}

func (s *sum) add(rows, digest uint64) {
	s.rows += rows
	s.digest += digest
}

// NewMerge returns a merge of sources whose streams ascend by compare. With fix,
// what remembers the order of rows with equal times is dropped after it has been
// used, for ever: only the full merge of a partition that is closed may do so.
func NewMerge(sources []Source, removes []Remover, fix bool, compare func(a, b model.Labels) int) (*Merge, error) {
	m := &Merge{sources: sources, removes: removes, fix: fix, compare: compare, removed: map[string]uint64{}}
	if err := m.unite(); err != nil {
		return nil, err
	}
	return m, nil
}

// unite numbers the streams of all sources, enters what the sources say that they
// hold, and finds the runs that an earlier source has, too: they are copies as a whole
// and need not be compared.
func (m *Merge) unite() error {
	at := make([]int, len(m.sources))
	lists := make([][]Stream, len(m.sources))
	m.index = make([][]uint32, len(m.sources))
	m.skips = make([]map[int][]block.Run, len(m.sources))
	for i, s := range m.sources {
		lists[i] = s.Streams()
		m.index[i] = make([]uint32, 0, len(lists[i]))
		m.skips[i] = map[int][]block.Run{}
	}
	var seen []block.Run // of the stream, in earlier sources
	for {
		var least model.Labels
		found := false
		for i, l := range lists {
			if at[i] < len(l) && (!found || m.compare(l[at[i]].Labels, least) < 0) {
				least, found = l[at[i]].Labels, true
			}
		}
		if !found {
			return nil
		}
		if n := len(m.streams); n > 0 && m.compare(m.streams[n-1], least) >= 0 {
			return fmt.Errorf("stream %s is not in the order of blocks", least)
		}
		b := balance{}
		seen = seen[:0]
		for i, l := range lists {
			if at[i] == len(l) || !l[at[i]].Labels.Equal(least) {
				continue
			}
			before := len(seen)
			for _, r := range l[at[i]].Runs {
				b.in.add(r.Rows, r.Digest)
				m.report.RowsIn += r.Rows
				if has(seen[:before], r) {
					m.skips[i][len(m.streams)] = append(m.skips[i][len(m.streams)], r)
					b.copies.add(r.Rows, r.Digest)
					m.report.Copies += r.Rows
				}
			}
			seen = append(seen, l[at[i]].Runs...)
			// Runs of one source ascend; those of several are sorted for the next.
			slices.SortFunc(seen, compareRuns)
			m.index[i] = append(m.index[i], uint32(len(m.streams)))
			l[at[i]].Labels = least // all sources share them
			at[i]++
		}
		m.streams = append(m.streams, least)
		m.ledger = append(m.ledger, b)
	}
}

// has reports whether a run is among others, which ascend.
func has(list []block.Run, r block.Run) bool {
	_, ok := slices.BinarySearchFunc(list, r, compareRuns)
	return ok
}

func compareRuns(a, b block.Run) int {
	return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), cmp.Compare(a.Rows, b.Rows),
		cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Bytes, b.Bytes))
}

// Run writes the rows with start <= time < end that remain. Parts of one merge must
// not overlap.
func (m *Merge) Run(ctx context.Context, start, end int64, w Writer) (err error) {
	carried, to := m.carried(w, start, end)
	defer m.release()
	cursors := make([]*cursor, len(m.sources))
	for i := range m.sources {
		cursors[i] = m.open(ctx, i, start, end, carried)
		defer cursors[i].close()
	}
	out := &output{merge: m, w: w}
	var same []*cursor
	for next := 0; ; {
		least := -1
		for _, c := range cursors {
			if err := c.fill(); err != nil {
				return err
			}
			if c.rows != nil && (least < 0 || c.stream < least) {
				least = c.stream
			}
		}
		for ; next < len(carried) && (least < 0 || next < least); next++ {
			if len(carried[next]) > 0 {
				if err := m.carry(ctx, next, carried[next], to, out); err != nil {
					return err
				}
			}
		}
		if least < 0 {
			return nil
		}
		same = same[:0]
		for _, c := range cursors {
			if c.rows != nil && c.stream == least {
				same = append(same, c)
			}
		}
		out.begin(least)
		if err := mergeStream(same, least, out); err != nil {
			return err
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
}

// release lets go of what was read of the sources last: what comes next needs memory, too.
func (m *Merge) release() {
	for _, s := range m.sources {
		if b, ok := s.(*BlockSource); ok {
			b.carried, b.group, b.section = nil, nil, nil
		}
	}
}

// Prove returns an error unless what came in is what went out, by stream, count and
// digest. It is called when all parts were written, whose times together are all
// times.
func (m *Merge) Prove() error {
	for i, b := range m.ledger {
		if b.in.rows != b.out.rows+b.copies.rows+b.removed.rows || b.in.digest != b.out.digest+b.copies.digest+b.removed.digest {
			return fmt.Errorf("%w: stream %s: %d rows in (digest %016x), %d out, %d copies, %d removed (digests together %016x)", ErrProof,
				m.streams[i], b.in.rows, b.in.digest, b.out.rows, b.copies.rows, b.removed.rows, b.out.digest+b.copies.digest+b.removed.digest)
		}
	}
	return nil
}

// ErrProof: a merge lost, doubled or changed rows. Nothing that it wrote may be
// stored.
var ErrProof = errors.New("the rows of a merge do not add up")

// ProveResults returns an error unless the written blocks together hold what the
// merge wrote, by stream, count and digest: what their footers say must be what the
// sources' footers said, less copies and what was removed.
func (m *Merge) ProveResults(results ...[]Stream) error {
	sums := make([]sum, len(m.ledger))
	for _, streams := range results {
		at := 0
		for _, s := range streams {
			for at < len(m.streams) && !m.streams[at].Equal(s.Labels) {
				at++
			}
			if at == len(m.streams) {
				return fmt.Errorf("%w: stream %s is in the result, but not in the sources, or not in order", ErrProof, s.Labels)
			}
			for _, r := range s.Runs {
				sums[at].add(r.Rows, r.Digest)
			}
		}
	}
	for i, s := range sums {
		if b := m.ledger[i]; s != b.out {
			return fmt.Errorf("%w: stream %s: %d rows were written (digest %016x), the result has %d (%016x)", ErrProof,
				m.streams[i], b.out.rows, b.out.digest, s.rows, s.digest)
		}
	}
	return nil
}

// Report returns what has been done so far.
func (m *Merge) Report() Report { return m.report }

// RemovedBy returns how many rows a remover left out.
func (m *Merge) RemovedBy(name string) uint64 { return m.removed[name] }

// All times: the range of a merge that is not cut.
const (
	MinTime = math.MinInt64
	MaxTime = math.MaxInt64
)
