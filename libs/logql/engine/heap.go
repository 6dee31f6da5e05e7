package engine

// Binary heaps whose first is before all others.

// heapUp moves the last up to its place.
func heapUp[T any](h []T, before func(a, b T) bool) {
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !before(h[i], h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// heapDown moves h[i] down to its place.
func heapDown[T any](h []T, i int, before func(a, b T) bool) {
	for {
		least := i
		for j := 2*i + 1; j <= 2*i+2 && j < len(h); j++ {
			if before(h[j], h[least]) {
				least = j
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
