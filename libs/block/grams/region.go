package grams

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

const (
	version      = 1
	headLen      = 4
	groupLen     = 4 + int(classes) + 2
	flagNonASCII = 1
	sumEvery     = 64 << 10

	maxRows   = 1 << 28
	maxBlocks = 1 << 16
)

// Region is a section's matrix opened for reading. Safe for concurrent use.
type Region struct {
	groups []group
	blocks int
	chosen bool
}

// Open verifies a matrix, whole and nothing but, and opens it. The region aliases b. chosen
// says that chosen grams are in it.
func Open(b []byte, chosen bool) (*Region, error) {
	if len(b) < headLen+8 || b[0] != version || b[1] != 0 {
		return nil, corrupt("no known version")
	}
	n := int(binary.LittleEndian.Uint16(b[2:]))
	at := headLen + n*groupLen
	if at > len(b) {
		return nil, corrupt("%d groups in %d bytes", n, len(b))
	}
	r := &Region{groups: make([]group, n), chosen: chosen}
	size := uint64(0)
	for i := range r.groups {
		p := b[headLen+i*groupLen:]
		g := &r.groups[i]
		g.rows = binary.LittleEndian.Uint32(p)
		copy(g.levels[:], p[4:])
		p = p[4+classes:]
		g.first, g.blocks, g.nonASCII = r.blocks, int(p[0]), p[1]&flagNonASCII != 0
		r.blocks += g.blocks
		if g.rows == 0 || g.rows > maxRows || g.blocks == 0 || g.blocks > maxGroup || p[1]&^flagNonASCII != 0 || r.blocks > maxBlocks {
			return nil, corrupt("group of %d rows, %d blocks, flags %x", g.rows, g.blocks, p[1])
		}
		for _, l := range g.levels {
			if l > maxLevel {
				return nil, corrupt("level %d", l)
			}
		}
		size += uint64(g.size())
	}
	sums := (size + sumEvery - 1) / sumEvery
	if uint64(at)+8*sums+8+size != uint64(len(b)) {
		return nil, corrupt("%d bytes where groups of %d are", len(b), size)
	}
	head := at + 8*int(sums)
	if got, want := xxhash.Sum64(b[:head]), binary.LittleEndian.Uint64(b[head:]); got != want {
		return nil, corrupt("head's checksum %016x, computed %016x", want, got)
	}
	matrix := b[head+8:]
	for i := range int(sums) {
		part := matrix[i*sumEvery : min((i+1)*sumEvery, len(matrix))]
		if got, want := xxhash.Sum64(part), binary.LittleEndian.Uint64(b[at+8*i:]); got != want {
			return nil, corrupt("checksum %016x of part %d, computed %016x", want, i, got)
		}
	}
	for i := range r.groups {
		g := &r.groups[i]
		n := g.size()
		g.matrix, matrix = matrix[:n:n], matrix[n:]
	}
	return r, nil
}

// Blocks returns the number of blocks that the matrix knows.
func (r *Region) Blocks() int { return r.blocks }

// MemorySize returns about how many bytes of memory the region takes, the matrix
// itself included.
func (r *Region) MemorySize() int {
	n := 64 + 80*len(r.groups)
	for i := range r.groups {
		n += len(r.groups[i].matrix)
	}
	return n
}

// Set is a set of blocks: bit i%64 of number i/64 says that block i is in it.
type Set []uint64

// Has reports whether a block is in the set.
func (s Set) Has(block int) bool { return block>>6 < len(s) && s[block>>6]>>(block&63)&1 != 0 }

// Empty reports whether no block is in the set.
func (s Set) Empty() bool {
	for _, x := range s {
		if x != 0 {
			return false
		}
	}
	return true
}

// And leaves the blocks that another set over the same section has as well.
func (s Set) And(o Set) {
	for i, x := range o {
		s[i] &= x
	}
}

// Or adds the blocks of another set over the same section.
func (s Set) Or(o Set) {
	for i, x := range o {
		s[i] |= x
	}
}

// Needle returns the blocks that may hold a line with the needle. With anyCase, the
// needle is in lower case and lines hold it in the sense of Go's regular expressions
// with flag i.
func (r *Region) Needle(needle []byte, anyCase bool) Set { return r.needle(needle, anyCase, long) }

// The longest runs of hexadecimal digits of a class of grams each but the last.
const (
	ShortRun = 11
	MidRun   = 19
)

// NeedleIn is Needle of lines in which no run of hexadecimal digits, in either case, that
// the needle lies in, wholly or with a part of it, is longer than run: of shorter runs more
// is known.
func (r *Region) NeedleIn(needle []byte, anyCase bool, run int) Set {
	return r.needle(needle, anyCase, runClass(run))
}

// OpenRuns reports whether runs of hexadecimal digits of which the needle has grams may go on
// beyond it: only then NeedleIn tells more than Needle.
func OpenRuns(needle []byte) bool {
	n := len(needle)
	isDigit := func(i int) bool { c := needle[i]; return c-'0' < 10 || c|0x20-'a' < 6 }
	begin, end := 0, n
	for begin < n && isDigit(begin) {
		begin++
	}
	for end > 0 && isDigit(end-1) {
		end--
	}
	return n >= 6 && (begin >= 4 || n-end >= 6)
}

func (r *Region) needle(needle []byte, anyCase bool, most class) Set {
	text := fold(make([]byte, 0, len(needle)+8), needle)
	n := len(needle)
	var rows []uint32
	return r.probe(func(g *group) []uint32 {
		rows = rows[:0]
		each(text, n, func(x gram) {
			level := g.levels[x.class]
			if x.open { // in the line the run may be longer
				for c := x.class + 1; c <= most; c++ {
					level = max(level, g.levels[c])
				}
			}
			in := kept(x.hash, level) || x.chosen && r.chosen && level <= chosenLevel
			if in && !(anyCase && manyForms(text[x.from:x.to], g.nonASCII)) {
				rows = append(rows, row(x.hash, g.rows))
			}
		})
		return rows
	})
}

// manyForms reports whether text of a needle in any case may be other bytes than its
// ASCII letters in lines: letters beyond ASCII, and where lines hold any bytes beyond
// ASCII also k and s, which are the same letter as U+212A and U+017F.
func manyForms(s []byte, nonASCII bool) bool {
	for _, c := range s {
		if c >= 0x80 || nonASCII && (c == 'k' || c == 's') {
			return true
		}
	}
	return false
}

// Value returns the blocks that may have a value of structured metadata.
func (r *Region) Value(name, value []byte) Set {
	h := hashValue(name, value)
	var rows [valueRows]uint32
	return r.probe(func(g *group) []uint32 {
		for k := range rows {
			rows[k] = valueRow(h, k, g.rows)
		}
		return rows[:]
	})
}

// NonASCII returns the blocks that may hold lines with bytes of 80 hex or more.
func (r *Region) NonASCII() Set {
	set := make(Set, (r.blocks+63)/64)
	for i := range r.groups {
		g := &r.groups[i]
		for k := g.first; g.nonASCII && k < g.first+g.blocks; k++ {
			set[k>>6] |= 1 << (k & 63)
		}
	}
	return set
}

// HasValue reports whether a block may have a value of structured metadata.
func (r *Region) HasValue(block int, name, value []byte) bool {
	return r.Value(name, value).Has(block)
}

// probe returns the blocks that have all of the rows that wanted returns.
func (r *Region) probe(wanted func(g *group) []uint32) Set {
	set := make(Set, (r.blocks+63)/64)
	for i := range r.groups {
		g := &r.groups[i]
		m := ^uint64(0) >> (64 - g.blocks)
		for _, row := range wanted(g) {
			if m &= g.row(row); m == 0 {
				break
			}
		}
		at, shift := g.first>>6, g.first&63
		set[at] |= m << shift
		if shift > 0 && m>>(64-shift) != 0 {
			set[at+1] |= m >> (64 - shift)
		}
	}
	return set
}

// row returns the bits of a row, and others above them.
func (g *group) row(r uint32) uint64 {
	bit := uint64(r) * uint64(g.blocks)
	at, shift := int(bit>>3), bit&7
	var tail [9]byte
	b := g.matrix[at:]
	if len(b) < 9 {
		copy(tail[:], b)
		b = tail[:]
	}
	x := binary.LittleEndian.Uint64(b) >> shift
	if shift > 0 {
		x |= uint64(b[8]) << (64 - shift)
	}
	return x
}
