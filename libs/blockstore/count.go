package blockstore

import (
	"sort"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// What follows are questions about all streams of a snapshot. They are answered row
// group by row group, as many small streams share one.

// Extent implements engine.Indexed.
func (s *selected) Extent() engine.Extent { return s.snapshot.Extent() }

// Labels implements engine.Indexed.
func (s *selected) Labels(i int) model.Labels { return s.snapshot.Labels(i) }

// AppendLabels implements engine.Indexed.
func (s *selected) AppendLabels(dst model.Labels, i int) model.Labels {
	return s.snapshot.AppendLabels(dst, i)
}

// AppendRuns implements engine.Indexed.
func (s *selected) AppendRuns(dst []engine.Run, i int) []engine.Run {
	return s.snapshot.AppendRuns(dst, i)
}

// Bounds implements engine.Indexed.
func (s *selected) Bounds(i int) (least, greatest int64) { return s.snapshot.Bounds(i) }

// Values implements engine.Indexed.
func (s *selected) Values(name string) ([]string, func(stream int) uint32) {
	return s.snapshot.Values(name)
}

// Parts implements engine.Counter. The parts are the row groups of wanted.
func (s *selected) Parts() int { return len(s.wanted()) }

// wanted returns the row groups that may have rows of the snapshot, ascending. It is shared.
func (s *selected) wanted() []int {
	s.groupsOnce.Do(func() {
		for group := range s.store.block.RowGroups() {
			from, to := s.streamsOf(group)
			if least, greatest := s.store.block.GroupTimes(group); from < to && least < s.snapshot.end && greatest >= s.snapshot.start {
				s.groups = append(s.groups, group)
			}
		}
	})
	return s.groups
}

// streamsOf returns the streams of the snapshot that have rows in a row group, by
// their places in its ascending numbers.
func (s *selected) streamsOf(group int) (from, to int) {
	first, end := s.store.block.StreamsOf(group)
	all := s.snapshot.ascending
	if len(all) == s.store.block.Streams() {
		return first, end
	}
	from = sort.Search(len(all), func(i int) bool { return int(all[i]) >= first })
	to = from + sort.Search(len(all)-from, func(i int) bool { return int(all[from+i]) >= end })
	return from, to
}

// Skips implements engine.Skipper.
func (s *selected) Skips() (groups, skipped int, err error) {
	for _, group := range s.wanted() {
		_, skip, err := s.decide(group)
		if err != nil {
			return 0, 0, err
		}
		if groups++; skip {
			skipped++
		}
	}
	return groups, skipped, nil
}

// Prune implements engine.Pruner.
func (s *selected) Prune() (streams []int, all bool, err error) {
	if !s.selects() {
		return nil, true, s.err
	}
	may := make([]bool, len(s.snapshot.numbers))
	n := 0
	groups := s.wanted()
	s.prepare(groups)
	for _, group := range groups {
		from, to := s.streamsOf(group)
		_, skip, err := s.decide(group)
		if err != nil {
			return nil, false, err
		}
		for k := from; k < to && !skip; k++ {
			if i := s.snapshot.place(k); !may[i] {
				may[i] = true
				n++
			}
		}
	}
	if n == len(may) {
		return nil, true, nil
	}
	streams = make([]int, 0, n)
	for i, is := range may {
		if is {
			streams = append(streams, i)
		}
	}
	return streams, false, nil
}

// Count implements engine.Counter.
func (s *selected) Count(part int, bucket func(t int64) (int, int64), add func(stream, bucket, rows int) error) (rows, bytes uint64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, 0, err
	}
	b, group := s.store.block, s.wanted()[part]
	first, end := s.streamsOf(group)
	if !s.selects() {
		rows, err = s.countRuns(group, first, end, bucket, add)
		return rows, 0, err
	}
	size, all := b.GroupSize(group)
	matched := uint64(0)
	err = s.countMatches(group, first, end, bucket, func(stream, bucket, rows int) error {
		matched += uint64(rows)
		return add(stream, bucket, rows)
	})
	rows = max(s.allExamined(group, first, end), matched)
	if s.lines.program != nil || s.hints.program != nil {
		bytes = uint64(all) * rows / uint64(size)
	}
	return rows, bytes, err
}

// countMatches is Count if some rows may not be wanted.
func (s *selected) countMatches(group, first, end int, bucket func(t int64) (int, int64), add func(stream, bucket, rows int) error) error {
	b := s.store.block
	program, skip, err := s.decide(group)
	if err != nil || skip {
		return err
	}
	if !s.asksFields() {
		if program == nil {
			_, err := s.countRuns(group, first, end, bucket, add)
			return err
		}
		// What templates tell of all rows, but not of which, is enough for one stream and bucket.
		least, greatest := b.GroupTimes(group)
		if at, last := bucket(least); end-first == 1 && last >= greatest && s.whole(group) {
			_, index := b.Place(group)
			if n, certain := program.Count(index); certain {
				if at < 0 || n == 0 {
					return nil
				}
				return add(s.snapshot.place(first), at, n)
			}
		}
	}
	p, err := s.pickOf(group, program)
	if err != nil {
		return err
	}
	if p.len() == 0 {
		return nil
	}
	body, err := s.store.body(s.ctx, group)
	if err != nil {
		return err
	}
	times, err := body.SharedTimes()
	if err != nil {
		return s.named(group, err)
	}
	at := 0 // of the rows that are picked
	for k := first; k < end; k++ {
		from, to := b.RowsOf(int(s.snapshot.ascending[k]), group)
		if err := s.countRows(p, &at, times, block.Span{From: from, To: to}, s.snapshot.place(k), bucket, add); err != nil {
			return err
		}
	}
	return nil
}

// countRuns is Count if all rows are wanted: whole runs that are in one bucket count
// without a look at their rows.
func (s *selected) countRuns(group, first, end int, bucket func(t int64) (int, int64), add func(stream, bucket, rows int) error) (rows uint64, err error) {
	var times []int64
	for k := first; k < end; k++ {
		place := s.snapshot.place(k)
		err = s.store.block.EachRun(int(s.snapshot.ascending[k]), group, func(r block.Run, from, to int) error {
			if r.MaxTime < s.snapshot.start || r.MinTime >= s.snapshot.end {
				return nil
			}
			if r.MinTime >= s.snapshot.start && r.MaxTime < s.snapshot.end {
				if at, last := bucket(r.MinTime); last >= r.MaxTime {
					rows += uint64(to - from)
					if at < 0 {
						return nil
					}
					return add(place, at, to-from)
				}
			}
			if times == nil {
				body, err := s.store.body(s.ctx, group)
				if err != nil {
					return err
				}
				if times, err = body.SharedTimes(); err != nil {
					return s.named(group, err)
				}
			}
			from, to = within(times, from, to, s.snapshot.start, s.snapshot.end)
			rows += uint64(to - from)
			next := 0
			return s.countRows(&picked{from: from, n: to - from}, &next, times, block.Span{From: from, To: to}, place, bucket, add)
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// countRows counts the rows that are picked of a stream. at is how many were passed.
func (s *selected) countRows(p *picked, at *int, times []int64, of block.Span, stream int, bucket func(t int64) (int, int64), add func(stream, bucket, rows int) error) error {
	n := p.len()
	for *at < n && p.at(*at) < of.From {
		*at++
	}
	for *at < n && p.at(*at) < of.To {
		where, last := bucket(times[p.at(*at)])
		from := *at
		// The end is mostly near, where there are many streams, or the last of the stream.
		step := 1
		for from+step < n && p.at(from+step) < of.To && times[p.at(from+step)] <= last {
			step *= 2
		}
		lo, hi := from+step/2, min(from+step, n)
		*at = lo + sort.Search(hi-lo, func(i int) bool { row := p.at(lo + i); return row >= of.To || times[row] > last })
		if where < 0 {
			continue
		}
		if err := add(stream, where, *at-from); err != nil {
			return err
		}
	}
	return nil
}
