package engine

// The heap's first is the next in the asked direction.

// order reports whether time t of stream s comes before u of another one.
func (sc *scan) order(t int64, s int, u int64, other int) bool {
	if t != u {
		return (t < u) != sc.req.Backward
	}
	return (s < other) != sc.req.Backward
}

func (sc *scan) before(a, b *cursor) bool { return sc.order(a.bound, a.stream, b.bound, b.stream) }

func (sc *scan) sooner(a, b waiting) bool {
	return sc.order(a.bound, int(a.stream), b.bound, int(b.stream))
}

func (sc *scan) down(i int) { heapDown(sc.heap, i, sc.before) }

func (sc *scan) push(c *cursor) {
	sc.heap = append(sc.heap, c)
	heapUp(sc.heap, sc.before)
}

func (sc *scan) pop() *cursor {
	c := sc.heap[0]
	n := len(sc.heap) - 1
	sc.heap[0] = sc.heap[n]
	sc.heap = sc.heap[:n]
	sc.down(0)
	return c
}

// fix restores the heap after its first cursor moved.
func (sc *scan) fix() {
	if sc.heap[0].done {
		sc.held.give(cursorSize)
		sc.pop()
		return
	}
	sc.down(0)
}
