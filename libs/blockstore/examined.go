package blockstore

import (
	"math/bits"

	"github.com/weir-logs/weir/libs/block"
)

// examined returns how many rows of a stream in a row group have times with
// start <= time < end. Of a run that is cut there it is as many as its share of the time: to
// know them its times would have to be read, which may not be needed otherwise. So rows count
// once where a query reads a run in parts.
func (s *selected) examined(stream, group int, start, end int64) (rows uint64) {
	b := s.store.block
	if least, greatest := b.GroupTimes(group); start <= least && greatest < end {
		from, to := b.RowsOf(stream, group)
		return uint64(to - from)
	}
	_ = b.EachRun(stream, group, func(r block.Run, from, to int) error {
		n := uint64(to - from)
		rows += before(r, n, end) - before(r, n, start)
		return nil
	})
	return rows
}

// before returns how many of n rows of a run are before a time, if they are spread evenly.
func before(r block.Run, n uint64, t int64) uint64 {
	switch {
	case t <= r.MinTime:
		return 0
	case t > r.MaxTime:
		return n
	}
	hi, lo := bits.Mul64(n, uint64(t)-uint64(r.MinTime))
	rows, _ := bits.Div64(hi, lo, uint64(r.MaxTime)-uint64(r.MinTime)+1) // t is below the divisor, so hi is, too
	return rows
}

// allExamined is examined for all streams of the snapshot in a row group: those of its
// ascending numbers from first on.
func (s *selected) allExamined(group, first, end int) (rows uint64) {
	for k := first; k < end; k++ {
		rows += s.examined(int(s.snapshot.ascending[k]), group, s.snapshot.start, s.snapshot.end)
	}
	return rows
}
