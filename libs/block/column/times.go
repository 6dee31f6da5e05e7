package column

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

const (
	timesVersion = 1
	timesGroup   = 128
)

// The units that times are stored in.
var timeUnits = [...]int64{1, 1e3, 1e6, 1e9}

// AppendTimes appends the encoded times of rows in runs: runEnds are the ascending
// row numbers at which the runs (of one stream each) end, the last one len(times);
// nil: one run. Any times are kept exactly, in whatever order; ascending ones
// within a run take the least room.
func AppendTimes(dst []byte, times []int64, runEnds []uint32) []byte {
	unit := timeUnit(times)
	dst = append(dst, timesVersion, byte(unit))
	scale := timeUnits[unit]
	whole := [1]uint32{uint32(len(times))}
	if runEnds == nil && len(times) > 0 {
		runEnds = whole[:]
	}
	// The first time of each run, against that of the run before.
	from, prev := uint32(0), int64(0)
	for _, end := range runEnds {
		if from == end {
			continue
		}
		t := times[from] / scale
		dst = binary.AppendVarint(dst, t-prev)
		from, prev = end, t
	}
	// Then the steps within the runs, in groups.
	var group [timesGroup]int64
	n := 0
	from = 0
	for _, end := range runEnds {
		for i := from + 1; i < end; i++ {
			group[n] = times[i]/scale - times[i-1]/scale
			if n++; n == timesGroup {
				dst = appendSteps(dst, group[:n])
				n = 0
			}
		}
		from = max(from, end)
	}
	return appendSteps(dst, group[:n])
}

func timeUnit(times []int64) int {
	unit := len(timeUnits) - 1
	for _, t := range times {
		for t%timeUnits[unit] != 0 {
			unit--
		}
		if unit == 0 {
			break
		}
	}
	return unit
}

func appendSteps(dst []byte, steps []int64) []byte {
	if len(steps) == 0 {
		return dst
	}
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for _, d := range steps {
		lo, hi = min(lo, d), max(hi, d)
	}
	width := bits.Len64(uint64(hi) - uint64(lo))
	dst = binary.AppendVarint(dst, lo)
	dst = append(dst, byte(width))
	var acc uint64
	fill := 0
	for _, d := range steps {
		x := uint64(d) - uint64(lo)
		acc |= x << fill
		if fill+width >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, acc)
			acc = x >> (64 - fill) // 0 for fill 0
			fill += width - 64
		} else {
			fill += width
		}
	}
	for ; fill > 0; fill -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// DecodeTimes appends the n times that b holds to dst. runEnds is what they were
// encoded with.
func DecodeTimes(dst []int64, b []byte, n int, runEnds []uint32) ([]int64, error) {
	if len(b) < 2 || b[0] != timesVersion || int(b[1]) >= len(timeUnits) {
		return dst, Corrupt("times without a known version and unit")
	}
	scale := timeUnits[b[1]]
	b = b[2:]
	whole := [1]uint32{uint32(n)}
	if runEnds == nil && n > 0 {
		runEnds = whole[:]
	}
	from := uint32(0)
	runs := 0
	for _, end := range runEnds {
		if end < from || int(end) > n {
			return dst, Corrupt("run ends at row %d after %d of %d", end, from, n)
		}
		if end > from {
			runs++
		}
		from = end
	}
	if int(from) != n {
		return dst, Corrupt("runs end at row %d of %d", from, n)
	}
	if runs > len(b) {
		return dst, Corrupt("%d bytes of times for %d runs", len(b), runs)
	}
	firsts := b
	for range runs {
		_, k := binary.Varint(b)
		if k <= 0 {
			return dst, Corrupt("times end within the first times of the runs")
		}
		b = b[k:]
	}
	var group [timesGroup]int64
	at, have, left := 0, 0, n-runs
	from = 0
	first := int64(0)
	for _, end := range runEnds {
		if end == from {
			continue
		}
		d, k := binary.Varint(firsts)
		firsts = firsts[k:]
		first += d
		t := first * scale
		dst = append(dst, t)
		for rest := int(end - from - 1); rest > 0; {
			if at == have {
				var err error
				have = min(left, timesGroup)
				left -= have
				if have <= rest { // as long runs have most of them
					k := len(dst)
					dst = slices.Grow(dst, have)[:k+have]
					if b, err = readTimes(dst[k:], b, t, scale); err != nil {
						return dst, err
					}
					t = dst[len(dst)-1]
					rest -= have
					at = have
					continue
				}
				if b, err = readSteps(group[:have], b); err != nil {
					return dst, err
				}
				at = 0
			}
			steps := group[at:min(have, at+rest)]
			k := len(dst)
			dst = slices.Grow(dst, len(steps))[:k+len(steps)]
			out := dst[k:]
			for i, d := range steps[:len(out)] {
				t += d * scale
				out[i] = t
			}
			at += len(steps)
			rest -= len(steps)
		}
		from = end
	}
	if len(b) != 0 {
		return dst, Corrupt("%d bytes behind the times", len(b))
	}
	return dst, nil
}

// stepsHead reads what a group of n steps begins with: the least of them, and the bits and
// bytes that what they are more takes in b.
func stepsHead(b []byte, n int) (lo int64, width, size int, rest []byte, err error) {
	lo, k := binary.Varint(b)
	if k <= 0 || k >= len(b) || b[k] > 64 {
		return 0, 0, 0, nil, Corrupt("times end within a group's head")
	}
	width = int(b[k])
	b = b[k+1:]
	if size = (n*width + 7) / 8; size > len(b) {
		return 0, 0, 0, nil, Corrupt("times end within a group")
	}
	return lo, width, size, b, nil
}

// readTimes reads a group of steps as the times that they lead to from t on.
func readTimes(times []int64, b []byte, t, scale int64) ([]byte, error) {
	lo, width, size, b, err := stepsHead(b, len(times))
	if err != nil {
		return nil, err
	}
	if width > 57 || size+8 > len(b) {
		unpackSteps(times, b, lo, width)
		for i, d := range times {
			t += d * scale
			times[i] = t
		}
		return b[size:], nil
	}
	// 8 bytes hold a step, with what is before it in its first byte, and two small ones.
	mask := uint64(1)<<width - 1
	bit, i := 0, 0
	if width <= 28 {
		for ; i+1 < len(times); i += 2 {
			x := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
			first := t + int64(uint64(lo)+x&mask)*scale
			t = first + int64(uint64(lo)+x>>width&mask)*scale
			times[i], times[i+1] = first, t
			bit += 2 * width
		}
	}
	for ; i < len(times); i++ {
		x := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
		t += int64(uint64(lo)+x&mask) * scale
		times[i] = t
		bit += width
	}
	return b[size:], nil
}

func readSteps(steps []int64, b []byte) ([]byte, error) {
	lo, width, size, b, err := stepsHead(b, len(steps))
	if err != nil {
		return nil, err
	}
	unpackSteps(steps, b, lo, width)
	return b[size:], nil
}

func unpackSteps(steps []int64, b []byte, lo int64, width int) {
	mask := uint64(1)<<width - 1 // all ones for 64
	bit, i := 0, 0
	if width == 0 {
		for i := range steps {
			steps[i] = lo
		}
		return
	}
	if width <= 57 { // with what is before them in their first byte, 8 bytes hold them
		for ; i < len(steps) && bit>>3+8 <= len(b); i++ {
			x := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
			steps[i] = int64(uint64(lo) + x&mask)
			bit += width
		}
	}
	for ; i < len(steps); i++ {
		p, sh := bit>>3, bit&7
		var x uint64
		if p+9 <= len(b) {
			x = binary.LittleEndian.Uint64(b[p:])>>sh | uint64(b[p+8])<<(64-sh)
		} else {
			var tail [9]byte
			copy(tail[:], b[p:])
			x = binary.LittleEndian.Uint64(tail[:])>>sh | uint64(tail[8])<<(64-sh)
		}
		steps[i] = int64(uint64(lo) + x&mask)
		bit += width
	}
}
