package lines

import (
	"encoding/binary"
	"math/bits"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// What the templates of a block say in all of its lines, the gram matrix cannot tell of its
// values. So a section tells, of the grams of each block's templates, which ones values of
// the block have, too.

// Gram returns the first four bytes of s, with A-Z in lower case, and whether values may be
// ruled out by it. Grams of digits are not: they are in numbers, addresses and times, which
// are not kept as text.
func Gram(s []byte) (gram uint32, ok bool) {
	gram = foldFour(binary.LittleEndian.Uint32(s))
	var all byte
	for k := range 4 {
		b := grammar[byte(gram>>(8*k))]
		if b == 0 {
			return gram, false
		}
		all |= b
	}
	return gram, all&strong != 0
}

const (
	weak   = 1 << iota // in values that are not kept as text
	strong             // never there
)

// grammar says of folded bytes what they are in a gram; 0: it is none.
var grammar = func() (t [256]byte) {
	for c := ' '; c < 0x80; c++ {
		switch {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'f' || c == '.' || c == '-':
			t[c] = weak
		default:
			t[c] = strong
		}
	}
	return t
}()

func foldFour(x uint32) uint32 { return uint32(foldEight(uint64(x))) }

// foldEight returns eight bytes with A-Z in lower case.
func foldEight(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	y := x &^ highs
	upper := (y + (0x80-'A')*ones) &^ (y + (0x80-'Z'-1)*ones) & highs &^ x
	return x | upper>>2
}

// gramHash is good in its upper bits.
func gramHash(gram uint32) uint32 { return uint32(uint64(gram) * 0x9E3779B97F4A7C15 >> 32) }

// sharedPerGram is how many bits each gram has that templates and values of a block share.
const sharedPerGram = 4

// shares reports whether the filter may have a gram.
func shares(filter []byte, gram uint32) bool {
	if len(filter) == 0 {
		return false
	}
	bit := uint64(gramHash(gram)) * uint64(8*len(filter)) >> 32
	return filter[bit>>3]>>(bit&7)&1 != 0
}

// Shared reports whether a value of a block, other than an in-line time, may hold a gram
// that a template of the block has in its literal text; of other grams it says nothing.
func (s *Section) Shared(block int, gram uint32) bool {
	return !s.TellsShared || shares(s.Blocks[block].shared, gram)
}

// appendShared appends what the footer says of the blocks' grams.
func appendShared(foot []byte, blocks []BlockInfo) []byte {
	for i := range blocks {
		foot = binary.AppendUvarint(foot, uint64(len(blocks[i].shared)))
		foot = append(foot, blocks[i].shared...)
	}
	return foot
}

// maxShared is of how many grams of templates it is told whether values have them. Where
// there are more, all count as if values had them.
const maxShared = 1 << 16

const hashBits = 17

// sharing finds the grams that the templates of a block share with its values. It knows those
// of all templates of the section so far: it does not matter if there are too many.
type sharing struct {
	known  []bool                      // by template: its grams are in table
	table  []uint32                    // grams by hash; 0: there is none
	shift  int                         // of hashes
	count  int                         // of grams
	more   bool                        // there are too many
	all    [1 << (hashBits - 6)]uint64 // by the upper bits of the hash, whether table may have a gram
	wanted [1 << (hashBits - 6)]uint64 // likewise, but for many that were found

	found []uint64 // bits of table: values of the block have it
	sum   int      // found
	vain  int      // how often one was found that was, since wanted was made
	since int      // sum, then

	column uint64 // number of that which is looked at
	seen   [1 << 10]seenValue
}

// seenValue is where a value is that was looked at, of a column.
type seenValue struct {
	column   uint64
	from, to uint32
}

// reset begins a section.
func (s *sharing) reset() {
	clear(s.known)
	s.forget()
}

func (s *sharing) forget() {
	clear(s.table)
	clear(s.all[:])
	s.count, s.more = 0, false
}

// begin begins a block with rows of templates, of which text returns the texts.
func (s *sharing) begin(templates []template.Count, text func(number uint32) []byte) {
	if s.more {
		s.reset() // there may be room for this block's
	}
	for _, c := range templates {
		for len(s.known) <= int(c.Template) {
			s.known = append(s.known, false)
		}
		if !s.known[c.Template] {
			s.known[c.Template] = true
			s.literals(text(c.Template))
		}
	}
	clear(s.found)
	s.wanted = s.all
	s.sum, s.vain, s.since = 0, 0, 0
}

// literals adds the grams of the text of a template.
func (s *sharing) literals(text []byte) {
	run, last := 0, -1 // how many bytes in a row are of grams, and which is the last strong one
	for i, c := range text {
		if c-'A' < 26 {
			c |= 0x20
		}
		switch grammar[c] {
		case 0: // or a mark
			run = 0
			continue
		case strong:
			last = i
		}
		if run++; run >= 4 && last > i-4 {
			s.add(foldFour(binary.LittleEndian.Uint32(text[i-3:])))
		}
	}
}

func (s *sharing) add(gram uint32) {
	if 2*(s.count+1) > len(s.table) {
		s.grow()
	}
	at := s.place(gram)
	if s.table[at] == gram {
		return
	}
	if s.count == maxShared {
		s.more = true
		return
	}
	s.table[at] = gram
	s.count++
	h := gramHash(gram) >> (32 - hashBits)
	s.all[h>>6] |= 1 << (h & 63)
}

func (s *sharing) grow() {
	old := s.table
	n := max(1<<12, 2*len(old))
	s.table, s.found, s.shift = make([]uint32, n), make([]uint64, n/64), 33-bits.Len(uint(n))
	for _, g := range old {
		if g != 0 {
			s.table[s.place(g)] = g
		}
	}
}

// place returns where in the table a gram is, or would be.
func (s *sharing) place(gram uint32) int {
	at := int(gramHash(gram) >> s.shift)
	for s.table[at] != 0 && s.table[at] != gram {
		at = (at + 1) & (len(s.table) - 1)
	}
	return at
}

// values looks at the values of a column.
func (s *sharing) values(c *column.Info, payload []byte) {
	if s.count == 0 || s.more {
		return
	}
	switch c.Kind {
	case column.Dict:
		s.values(c.Values, payload[:c.IndexAt])
	case column.Bytes:
		s.texts(c, payload)
	default: // digits, but for what is before them; or a value that all rows have
		s.text(c.Prefix)
	}
}

// texts looks at values of text: at those that come again once, and at what one has in common
// with the one before it.
func (s *sharing) texts(c *column.Info, payload []byte) {
	n, width := c.N, int(c.Width)
	lengths, text := payload[:n*width], payload[n*width:]
	if len(text) < minDiffer*n {
		s.text(text)
		return
	}
	s.column++
	var last []byte
	at := 0
	for i := range n {
		size := c.MinLen
		for k := range width {
			size += int(lengths[k*n+i]) << (8 * k)
		}
		v := text[at : at+size]
		at += size
		if size >= minDiffer {
			h := (binary.LittleEndian.Uint64(v[size/2-4:]) ^ binary.LittleEndian.Uint64(v[size-8:]) ^ uint64(size)) * 0x9E3779B97F4A7C15 >> 54
			e := &s.seen[h]
			if e.column == s.column && string(text[e.from:e.to]) == string(v) {
				continue
			}
			*e = seenValue{s.column, uint32(at - size), uint32(at)}
		}
		same := 0 // at the beginning, then at the end
		most := min(len(v), len(last))
		for same+8 <= most && binary.LittleEndian.Uint64(v[same:]) == binary.LittleEndian.Uint64(last[same:]) {
			same += 8
		}
		from := max(0, same-3)
		most, same = most-same, 0
		for same+8 <= most && binary.LittleEndian.Uint64(v[size-same-8:]) == binary.LittleEndian.Uint64(last[len(last)-same-8:]) {
			same += 8
		}
		s.text(v[from:min(size, size-same+3)])
		last = v
	}
}

// minDiffer is how long values are that are compared with each other.
const minDiffer = 24

// text notes the grams of values that lie end to end. Those that two of them have together
// are noted as well: the filter is allowed to have too many.
func (s *sharing) text(text []byte) {
	const (
		golden = 0x9E3779B97F4A7C15
		shift  = 64 - hashBits
	)
	w := &s.wanted
	for ; len(text) >= 8; text = text[5:] {
		x := foldEight(binary.LittleEndian.Uint64(text))
		a, b, c, d, e := x<<32>>32*golden>>shift, x<<24>>32*golden>>shift, x<<16>>32*golden>>shift, x<<8>>32*golden>>shift, x>>32*golden>>shift
		found := w[a>>6]>>(a&63)&1 | w[b>>6]>>(b&63)&1<<1 | w[c>>6]>>(c&63)&1<<2 | w[d>>6]>>(d&63)&1<<3 | w[e>>6]>>(e&63)&1<<4
		for ; found != 0; found &= found - 1 {
			s.note(uint32(x >> (8 * bits.TrailingZeros64(found) & 63)))
		}
	}
	for ; len(text) >= 4; text = text[1:] {
		s.note(foldFour(binary.LittleEndian.Uint32(text)))
	}
}

func (s *sharing) note(gram uint32) {
	at := s.place(gram)
	bit := uint64(1) << (at & 63)
	switch {
	case s.table[at] != gram || gram == 0:
	case s.found[at>>6]&bit == 0:
		s.found[at>>6] |= bit
		s.sum++
	default:
		if s.vain++; s.vain > len(s.table)/4 && s.sum > s.since {
			s.want()
		}
	}
}

// want leaves the grams wanted that were not found yet.
func (s *sharing) want() {
	s.vain, s.since = 0, s.sum
	clear(s.wanted[:])
	for at, g := range s.table {
		if g != 0 && s.found[at>>6]>>(at&63)&1 == 0 {
			h := gramHash(g) >> (32 - hashBits)
			s.wanted[h>>6] |= 1 << (h & 63)
		}
	}
}

// filter returns what the section says of the block.
func (s *sharing) filter() []byte {
	switch {
	case s.more:
		return []byte{0xff}
	case s.sum == 0:
		return nil
	}
	out := make([]byte, (s.sum*sharedPerGram+7)/8)
	for i, x := range s.found {
		for ; x != 0; x &= x - 1 {
			h := gramHash(s.table[i<<6+bits.TrailingZeros64(x)])
			bit := uint64(h) * uint64(8*len(out)) >> 32
			out[bit>>3] |= 1 << (bit & 7)
		}
	}
	return out
}
