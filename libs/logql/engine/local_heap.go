package engine

// The heap's first is the next in the asked direction.

func (sc *scan) before(a, b *cursor) bool {
	if a.bound != b.bound {
		return (a.bound < b.bound) != sc.req.Backward
	}
	return (a.stream < b.stream) != sc.req.Backward
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
		sc.pop()
		return
	}
	sc.down(0)
}
