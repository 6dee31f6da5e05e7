package compact

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// carrier is a Writer that takes rows over as they are stored in other blocks.
type carrier interface {
	Writer
	Carry(ls model.Labels, c *block.Carried, from, to, bytes int) error
	CarryRuns(ls model.Labels, runs []block.Run) error
}

// sourceRun is a run of a source's stream.
type sourceRun struct {
	source, stream int
	run            block.Run
	united         bool // its rows are united with those of others
}

// carriable returns the runs of a stream with start <= time < end, ascending, if most of
// them can be taken over whole: nothing is removed of them, and they do not touch, so that
// none of their rows is a copy of another's and their order is that of their times. Those
// that do touch are to be united.
func (m *Merge) carriable(stream int, lists [][]sourceRun, start, end int64) ([]sourceRun, bool) {
	for _, r := range m.removes {
		if r.ForStream(m.streams[stream]) != nil {
			return nil, false
		}
	}
	all := lists[stream][:0]
	for _, r := range lists[stream] {
		if r.run.MaxTime < start || r.run.MinTime >= end && end != MaxTime {
			continue
		}
		if r.run.MinTime < start || r.run.MaxTime >= end || r.run.MaxTime == MaxTime {
			return nil, false
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b sourceRun) int { return compareRuns(a.run, b.run) })
	// Rows of runs that touch, directly or by others between them.
	united, rows := uint64(0), uint64(0)
	for from := 0; from < len(all); {
		to, sum, last := from, uint64(0), int64(MinTime)
		for ; to < len(all) && (to == from || all[to].run.MinTime <= last); to++ {
			sum += all[to].run.Rows
			last = max(last, all[to].run.MaxTime)
		}
		if rows += sum; to > from+1 {
			united += sum
			for i := from; i < to; i++ {
				all[i].united = true
			}
		}
		from = to
	}
	return all, united <= rows/2
}

// carried returns the runs of streams of which some are taken over, by stream, and the
// writer that can; none of those streams' rows come in another way. nil: there are none.
func (m *Merge) carried(w Writer, start, end int64) ([][]sourceRun, carrier) {
	to, ok := w.(carrier)
	if !ok || slices.ContainsFunc(m.sources, func(s Source) bool { _, is := s.(*BlockSource); return !is }) {
		return nil, nil
	}
	lists := m.runs()
	for i := range lists {
		if lists[i], ok = m.carriable(i, lists, start, end); !ok {
			lists[i] = nil
		}
	}
	return lists, to
}

// runs returns the runs of each stream that are not copies of another source's.
func (m *Merge) runs() [][]sourceRun {
	lists := make([][]sourceRun, len(m.streams))
	counts, sum := make([]int, len(m.streams)), 0
	for i, s := range m.sources {
		for k, st := range s.Streams() {
			counts[m.index[i][k]] += len(st.Runs)
			sum += len(st.Runs)
		}
	}
	all := make([]sourceRun, sum)
	for i, n := range counts {
		lists[i], all = all[:0:n], all[n:]
	}
	for i, s := range m.sources {
		for k, st := range s.Streams() {
			at := m.index[i][k]
			skip := m.skips[i][int(at)]
			for _, r := range st.Runs {
				if !has(skip, r) {
					lists[at] = append(lists[at], sourceRun{source: i, stream: k, run: r})
				}
			}
		}
	}
	return lists
}

// carry takes over the runs of a stream, or has out unite them.
func (m *Merge) carry(ctx context.Context, stream int, runs []sourceRun, w carrier, out *output) error {
	ls := m.streams[stream]
	for from := 0; from < len(runs); {
		to := from + 1
		for to < len(runs) && runs[to].united == runs[from].united && (runs[to].united || runs[to].source == runs[from].source) {
			to++
		}
		if runs[from].united {
			if err := m.uniteRuns(ctx, stream, runs[from:to], out); err != nil {
				return err
			}
			from = to
			continue
		}
		list := m.announced[:0]
		for _, r := range runs[from:to] {
			list = append(list, r.run)
			m.ledger[stream].out.add(r.run.Rows, r.run.Digest)
			m.report.RowsOut += r.run.Rows
		}
		m.announced = list
		if err := w.CarryRuns(ls, list); err != nil {
			return err
		}
		src := m.sources[runs[from].source].(*BlockSource)
		for _, r := range list {
			if err := src.carry(ctx, ls, runs[from].stream, r, w); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// carry takes over the rows of a run.
func (s *BlockSource) carry(ctx context.Context, ls model.Labels, stream int, run block.Run, w carrier) error {
	at := s.bytesBefore(stream, run)
	end := at + run.Bytes
	s.spans = s.reader.AppendSpans(s.spans[:0], stream, run.MinTime, run.MaxTime+1)
	for _, span := range s.spans {
		if s.carried == nil || s.carried.Number() != span.Group {
			if err := s.open(ctx, span.Group); err != nil {
				return err
			}
		}
		to := min(end, s.groups[span.Group+1])
		if at < s.groups[span.Group] || at > to {
			return fmt.Errorf("block %s, row group %d: %w", s.ID(), span.Group, column.Corrupt("its lines are bytes %d to %d of all, those of a run %d to %d",
				s.groups[span.Group], s.groups[span.Group+1], at, end))
		}
		if err := w.Carry(ls, s.carried, span.From, span.To, int(to-at)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// open makes a row group the one whose rows are taken over.
func (s *BlockSource) open(ctx context.Context, group int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, _ := s.reader.Place(group)
	if s.section == nil || s.sectionAt != k {
		section, err := s.reader.ReadSection(ctx, k)
		if err != nil {
			return err
		}
		s.section, s.sectionAt = section, k
	}
	g, err := s.reader.ReadRowGroup(ctx, s.section, group)
	if err != nil {
		return err
	}
	s.carried, s.group = s.reader.Carry(g), g
	return nil
}

// uniteRuns unites the rows of runs of a stream, which are all that it has between the
// first one's time and the last one's.
func (m *Merge) uniteRuns(ctx context.Context, stream int, runs []sourceRun, out *output) error {
	start, last := runs[0].run.MinTime, runs[0].run.MaxTime
	for _, r := range runs {
		last = max(last, r.run.MaxTime)
	}
	var cursors []*cursor
	for i := range m.sources {
		k := slices.IndexFunc(runs, func(r sourceRun) bool { return r.source == i })
		if k < 0 {
			continue
		}
		src, number := m.sources[i].(*BlockSource), runs[k].stream
		c := m.cursor(i, start, last+1, func(yield rowsYield) error {
			return src.rows(ctx, number, start, last+1, yield)
		})
		defer c.close()
		c.last, c.stream = number, stream
		if err := c.fill(); err != nil {
			return err
		}
		if c.rows != nil {
			cursors = append(cursors, c)
		}
	}
	out.begin(stream)
	if err := mergeStream(cursors, stream, out); err != nil {
		return err
	}
	return out.flush()
}

// rows yields the rows of a stream with start <= time < end, of the row group whose rows
// are taken over.
func (s *BlockSource) rows(ctx context.Context, stream int, start, end int64, yield rowsYield) error {
	page := &model.Rows{}
	var list []uint32
	for _, span := range s.reader.Spans(stream, start, end) {
		if s.carried == nil || s.carried.Number() != span.Group {
			if err := s.open(ctx, span.Group); err != nil {
				return err
			}
		}
		from, to, err := within(s.group, span, start, end)
		if err != nil {
			return err
		}
		for from < to {
			n := min(to, from+batchRows)
			list = list[:0]
			for row := from; row < n; row++ {
				list = append(list, uint32(row))
			}
			block.Empty(page)
			if err := s.reader.Append(page, s.group, list, true, true); err != nil {
				return err
			}
			if err := yield(s.streams[stream].Labels, page, 0, n-from); err != nil {
				return err
			}
			from = n
		}
	}
	return nil
}

// bytesBefore returns how many bytes of lines there are in the block before a run.
func (s *BlockSource) bytesBefore(stream int, run block.Run) uint64 {
	if s.groups == nil {
		s.groups, s.before = []uint64{0}, []uint64{0}
		sum := uint64(0)
		for g := range s.reader.Info().RowGroups {
			_, n := s.reader.GroupSize(g)
			sum += uint64(n)
			s.groups = append(s.groups, sum)
		}
		sum = 0
		for _, st := range s.streams {
			for _, r := range st.Runs {
				sum += r.Bytes
			}
			s.before = append(s.before, sum)
		}
	}
	// Runs are asked for as they ascend: those of a stream are added up once.
	p := &s.passed
	runs := s.streams[stream].Runs
	if p.stream != stream || p.runs == 0 || runs[p.runs-1].MinTime >= run.MinTime {
		*p = passed{stream: stream, bytes: s.before[stream]}
	}
	for ; p.runs < len(runs) && runs[p.runs].MinTime < run.MinTime; p.runs++ {
		p.bytes += runs[p.runs].Bytes
	}
	return p.bytes
}

// passed is how many runs of a stream come before one, and the bytes of all lines before it.
type passed struct {
	stream, runs int
	bytes        uint64
}
