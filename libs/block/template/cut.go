package template

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// A token is a stretch of a raw template between delimiters.
type token struct {
	a, b     uint32
	lead     uint64 // hash of the delimiters before it
	word     uint64 // hash of its own text
	ctx      uint64 // what stands before it
	number   int32  // of the context, plus one; 0: not known
	noted    bool   // the context knows the text
	variable bool   // becomes one value
	time     bool   // holds an in-line time
	slot     bool   // holds a slot
}

// A quote is a quoted string of several tokens.
type quote struct {
	a, b   uint32
	t0, t1 int32 // tokens
	ctx    uint64
	fixed  bool // may not become a value
}

const delimiters = " \t\n\r\"'=,;()[]{}<>|:\\"

var isDelimiter = func() (t [256]bool) {
	for _, c := range []byte(delimiters) {
		t[c] = true
	}
	return t
}()

// cut splits a raw template into tokens and quotes, which it appends.
func cut(s []byte, tokens []token, quotes []quote) ([]token, []quote) {
	open, open0, end := -1, 0, 0
	for i := 0; i < len(s); {
		if c := s[i]; isDelimiter[c] {
			if c == '"' && (i == 0 || s[i-1] != '\\') {
				if open < 0 {
					open, open0 = i, len(tokens)
				} else {
					q := quote{a: uint32(open + 1), b: uint32(i), t0: int32(open0), t1: int32(len(tokens))}
					words := false
					for _, x := range s[q.a:q.b] {
						words = words || x == ' '
						q.fixed = q.fixed || x == markTime || x == '\n'
					}
					if words && q.t1 > q.t0+1 {
						quotes = append(quotes, q)
					}
					open = -1
				}
			}
			i++
			continue
		}
		t := token{a: uint32(i), lead: hashText(s[end:i])}
		for i < len(s) && !isDelimiter[s[i]] {
			switch s[i] {
			case markTime:
				t.time = true
				i++ // the layout
			case markSlot:
				t.slot = true
			}
			i++
		}
		t.b, t.word, end = uint32(i), hashText(s[t.a:i]), i
		tokens = append(tokens, t)
	}
	return tokens, quotes
}

// slab gives out copies of short slices, many of them from one piece of memory.
type slab[T any] struct{ free []T }

func (s *slab[T]) keep(v []T) []T {
	if len(v) == 0 {
		return nil
	}
	out := s.take(len(v))
	copy(out, v)
	return out
}

// take gives out a slice, never nil.
func (s *slab[T]) take(n int) []T {
	if len(s.free) < n || s.free == nil {
		s.free = make([]T, max(256, n))
	}
	out := s.free[:n:n]
	s.free = s.free[n:]
	return out
}

// hashText is a quick hash for short texts.
func hashText(s []byte) uint64 {
	if len(s) > 24 {
		return xxhash.Sum64(s)
	}
	h := uint64(len(s)) * 0x9E3779B97F4A7C15
	for ; len(s) >= 8; s = s[8:] {
		h = mix(h, binary.LittleEndian.Uint64(s))
	}
	x := uint64(0)
	for i, c := range s {
		x |= uint64(c) << (8 * i)
	}
	return mix(h, x)
}

// distinct counts the distinct shapes seen in a context, up to a limit; over it the
// context is variable and the shapes are forgotten.
type distinct struct {
	shapes   []uint64
	variable bool
}

const maxContexts = 128 << 10

// contexts knows which contexts are variable.
type contexts struct {
	limit   int
	numbers map[uint64]int32
	all     []distinct
}

func newContexts(limit int) contexts { return contexts{limit: limit, numbers: map[uint64]int32{}} }

// variable reports whether a context is, and returns its number plus one, 0 if it has
// none.
func (c *contexts) variable(ctx uint64) (int32, bool) {
	n, ok := c.numbers[ctx]
	if !ok {
		return 0, false
	}
	return n + 1, c.all[n].variable
}

// see notes a shape in a context, whose number plus one is n if it has one. It returns
// that, and whether the shape made the context variable.
func (c *contexts) see(n int32, ctx, shape uint64) (int32, bool) {
	if n == 0 {
		if len(c.all) >= maxContexts {
			return 0, false
		}
		c.numbers[ctx] = int32(len(c.all))
		c.all = append(c.all, distinct{})
		n = int32(len(c.all))
	}
	d := &c.all[n-1]
	if d.variable {
		return n, false
	}
	for _, s := range d.shapes {
		if s == shape {
			return n, false
		}
	}
	if len(d.shapes) < c.limit {
		d.shapes = append(d.shapes, shape)
		return n, false
	}
	d.shapes, d.variable = nil, true
	return n, true
}
