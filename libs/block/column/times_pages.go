package column

import (
	"encoding/binary"
	"slices"
	"sort"
)

// TimesGroup is how many steps each part of encoded times is a multiple of, but for the
// last one.
const TimesGroup = timesGroup

// CutTimes cuts what AppendTimes made of times into a head and parts of steps each, a
// multiple of TimesGroup. The parts are what follows the head in b.
func CutTimes(b []byte, times []int64, runEnds []uint32, steps int) (head []byte, parts [][]byte) {
	scale := timeUnits[b[1]]
	at := 2
	for range runEnds {
		_, k := binary.Varint(b[at:])
		at += k
	}
	head = append(head, b[:at]...)
	for left, from := len(times)-len(runEnds), at; left > 0; from = at {
		for part := min(steps, left); part > 0; {
			n := min(part, timesGroup)
			_, k := binary.Varint(b[at:])
			at += k + 1 + (n*int(b[at+k])+7)/8
			part -= n
			left -= n
		}
		parts = append(parts, b[from:at])
	}
	prev := times[0] / scale
	for _, row := range pageRows(len(times), runEnds, steps)[1:] {
		if int(row) < len(times) {
			x := times[row-1] / scale
			head = binary.AppendVarint(head, x-prev)
			prev = x
		}
	}
	return head, parts
}

// pageRows returns which row each part begins with, and how many rows there are.
func pageRows(rows int, runEnds []uint32, steps int) []uint32 {
	out := make([]uint32, 1, (rows-len(runEnds))/steps+2)
	next, from := steps, uint32(0) // the step that the next part begins with, a run's first row
	done := 0                      // steps of the runs before
	for _, end := range runEnds {
		n := int(end-from) - 1
		for next < done+n {
			out = append(out, from+1+uint32(next-done))
			next += steps
		}
		done += n
		from = end
	}
	return append(out, uint32(rows))
}

// TimesPages gives the times of rows of which only some parts are there. Read-only.
type TimesPages struct {
	runEnds []uint32
	scale   int64
	steps   int
	firsts  []int64 // times of the runs' first rows
	rows    []uint32
	before  []int64 // times of the rows before each part but the first
}

// OpenTimesPages opens the head of the times of n rows that were cut into parts of steps
// each. runEnds is what they were encoded with.
func OpenTimesPages(head []byte, n int, runEnds []uint32, steps int) (*TimesPages, error) {
	if len(head) < 2 || head[0] != timesVersion || int(head[1]) >= len(timeUnits) || steps < 1 || steps%timesGroup != 0 {
		return nil, Corrupt("times without a known version, unit and parts")
	}
	if len(runEnds) > len(head) {
		return nil, Corrupt("%d bytes of times for %d runs", len(head), len(runEnds))
	}
	from := uint32(0)
	for _, end := range runEnds {
		if end <= from || int(end) > n {
			return nil, Corrupt("run ends at row %d after %d of %d", end, from, n)
		}
		from = end
	}
	if int(from) != n {
		return nil, Corrupt("runs end at row %d of %d", from, n)
	}
	t := &TimesPages{runEnds: runEnds, scale: timeUnits[head[1]], steps: steps, rows: pageRows(n, runEnds, steps)}
	b := head[2:]
	number := func(prev int64) (int64, error) {
		d, k := binary.Varint(b)
		if k <= 0 {
			return 0, Corrupt("times end within the head")
		}
		b = b[k:]
		return prev + d, nil
	}
	t.firsts = make([]int64, len(runEnds))
	x := int64(0)
	var err error
	for i := range t.firsts {
		if x, err = number(x); err != nil {
			return nil, err
		}
		t.firsts[i] = x * t.scale
	}
	if len(t.rows)-2 > len(b) {
		return nil, Corrupt("%d bytes of a head of times for %d parts", len(b), len(t.rows)-1)
	}
	t.before = make([]int64, len(t.rows)-2)
	if len(t.firsts) > 0 {
		x = t.firsts[0] / t.scale
	}
	for i := range t.before {
		if x, err = number(x); err != nil {
			return nil, err
		}
		t.before[i] = x * t.scale
	}
	if len(b) > 0 {
		return nil, Corrupt("%d bytes behind the head of times", len(b))
	}
	return t, nil
}

// Parts returns how many parts there are.
func (t *TimesPages) Parts() int { return len(t.rows) - 1 }

// Part returns which part tells the time of a row.
func (t *TimesPages) Part(row int) int {
	return sort.Search(len(t.rows)-2, func(i int) bool { return int(t.rows[i+1]) > row })
}

// Rows returns which rows a part is about.
func (t *TimesPages) Rows(part int) (from, to int) { return int(t.rows[part]), int(t.rows[part+1]) }

// Before returns the time of the last row before a part, which is not the first.
func (t *TimesPages) Before(part int) int64 { return t.before[part-1] }

// MemorySize returns about how many bytes of memory it takes.
func (t *TimesPages) MemorySize() int {
	return 160 + 8*len(t.firsts) + 4*len(t.rows) + 8*len(t.before)
}

// Decode appends the times of the rows of a part to dst.
func (t *TimesPages) Decode(dst []int64, part int, b []byte) ([]int64, error) {
	row, to := t.Rows(part)
	run := sort.Search(len(t.runEnds), func(i int) bool { return int(t.runEnds[i]) > row })
	// As many steps as there are rows that no run begins with.
	left := to - row
	if row == 0 {
		left--
	}
	for i := run; i < len(t.runEnds) && int(t.runEnds[i]) < to; i++ {
		left--
	}
	var steps [timesGroup]int64
	at, have := 0, 0
	x := int64(0)
	if part > 0 {
		x = t.before[part-1]
	}
	for row < to {
		if row == int(t.runEnds[run]) {
			run++
		}
		if row == 0 || run > 0 && row == int(t.runEnds[run-1]) {
			x = t.firsts[run]
			dst = append(dst, x)
			row++
		}
		for end := min(to, int(t.runEnds[run])); row < end; {
			if at == have {
				n, k := min(left, timesGroup), len(dst)
				left -= n
				var err error
				if n <= end-row { // as long runs have most of them
					dst = slices.Grow(dst, n)[:k+n]
					if b, err = readTimes(dst[k:], b, x, t.scale); err != nil {
						return nil, err
					}
					x = dst[k+n-1]
					row += n
					continue
				}
				at, have = 0, n
				if b, err = readSteps(steps[:have], b); err != nil {
					return nil, err
				}
			}
			k := min(have-at, end-row)
			for _, d := range steps[at : at+k] {
				x += d * t.scale
				dst = append(dst, x)
			}
			at += k
			row += k
		}
	}
	if len(b) > 0 {
		return nil, Corrupt("%d bytes behind the steps of a part", len(b))
	}
	// Rows are looked for by what the head says of the next part.
	if part < len(t.before) && t.before[part] != x {
		return nil, Corrupt("row %d has the time %d, not %d", to-1, x, t.before[part])
	}
	return dst, nil
}
