package engine

import "math"

// grid is the windows (t-interval, t] of a range aggregation, at
// t = start, start+step, … <= end. Times between two neighbouring window edges
// fall into the same windows, so samples are first folded into the buckets
// between edges, and a window is a row of neighbouring buckets.
type grid struct {
	start, step, interval int64
	steps                 int
	// interval = whole*step + rest.
	whole, rest int64
}

// newGrid makes a grid. step 0 is a single window at start. Times must be far
// enough from the ends of int64 that start-interval and end+step exist.
func newGrid(start, end, step, interval int64) grid {
	g := grid{start: start, step: step, interval: interval, steps: 1}
	if step <= 0 {
		g.step = interval
	} else if end > start {
		g.steps = int((end-start)/step) + 1
	}
	g.whole, g.rest = interval/g.step, interval%g.step
	return g
}

// from is the first time that falls in a window, to the first behind all windows.
func (g *grid) from() int64 { return g.start - g.interval + 1 }
func (g *grid) to() int64   { return g.end() + 1 }
func (g *grid) end() int64  { return g.start + int64(g.steps-1)*g.step }

// bucket returns the bucket of a time, and the last time in the same bucket.
// The bucket is -1 where no window is.
func (g *grid) bucket(t int64) (bucket int, last int64) {
	if t < g.from() {
		return -1, g.from() - 1
	}
	if t > g.end() {
		return -1, math.MaxInt64
	}
	// k is the first step at or behind t; it may be negative.
	d := t - g.start
	k := d / g.step
	if d > k*g.step {
		k++
	}
	at := g.start + k*g.step
	if g.rest == 0 {
		return int(k + g.whole - 1), at
	}
	// Each step has two buckets, cut where a window begins.
	cut := at - g.rest
	if t > cut {
		return int(2*(k+g.whole) + 1), at
	}
	if g.whole == 0 {
		return -1, cut
	}
	return int(2 * (k + g.whole)), cut
}

// buckets returns how many buckets there are.
func (g *grid) buckets() int {
	_, last := g.window(g.steps - 1)
	return last + 1
}

// window returns the first and the last bucket of a step's window.
func (g *grid) window(step int) (first, last int) {
	if g.rest == 0 {
		return step, step + int(g.whole) - 1
	}
	return 2*step + 1, 2*(step+int(g.whole)) + 1
}
