package engine

// The heap's first is the next in the asked direction.

func (sc *scan) before(a, b *cursor) bool {
	if a.bound != b.bound {
		return (a.bound < b.bound) != sc.req.Backward
	}
	return (a.stream < b.stream) != sc.req.Backward
}

func (sc *scan) down(i int) {
	for {
		least := i
		for j := 2*i + 1; j <= 2*i+2 && j < len(sc.heap); j++ {
			if sc.before(sc.heap[j], sc.heap[least]) {
				least = j
			}
		}
		if least == i {
			return
		}
		sc.heap[i], sc.heap[least] = sc.heap[least], sc.heap[i]
		i = least
	}
}

func (sc *scan) push(c *cursor) {
	sc.heap = append(sc.heap, c)
	for i := len(sc.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !sc.before(sc.heap[i], sc.heap[up]) {
			return
		}
		sc.heap[i], sc.heap[up] = sc.heap[up], sc.heap[i]
		i = up
	}
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
