package model

// Slab cuts short slices off long ones, which costs less than to allocate each. Memory is
// free when none of the slices of a page is in use any more: they should be of one use.
// The zero value is ready. It is for one goroutine.
type Slab[T any] struct{ page []T }

// Take returns an empty slice with room for n values; to append more copies it. page is
// how many values are worth to be allocated together: no more than are going to be taken.
func (s *Slab[T]) Take(n, page int) []T {
	if 4*n > page {
		return make([]T, 0, n)
	}
	if cap(s.page)-len(s.page) < n {
		s.page = make([]T, 0, page)
	}
	at := len(s.page)
	s.page = s.page[:at+n]
	return s.page[at : at : at+n]
}

// Pages is a Slab that remembers its pages, to be filled once more when nothing refers to
// what was taken any more. The zero value is ready. It is for one goroutine.
type Pages[T any] struct {
	pages [][]T
	at    int // pages before it are full
}

// Take is [Slab.Take]. The memory is zero.
func (p *Pages[T]) Take(n, page int) []T {
	if 4*n > page {
		return make([]T, 0, n)
	}
	for p.at < len(p.pages) && cap(p.pages[p.at])-len(p.pages[p.at]) < n {
		p.at++
	}
	if p.at == len(p.pages) {
		p.pages = append(p.pages, make([]T, 0, page))
	}
	last := &p.pages[p.at]
	at := len(*last)
	*last = (*last)[:at+n]
	return (*last)[at : at : at+n]
}

// Reuse takes back all that was taken, and returns how many values there is memory for.
func (p *Pages[T]) Reuse() (held int) {
	for i, page := range p.pages {
		clear(page)
		p.pages[i] = page[:0]
		held += cap(page)
	}
	p.at = 0
	return held
}
