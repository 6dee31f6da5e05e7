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
