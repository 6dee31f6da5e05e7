package grams

import (
	"encoding/binary"
	"math/bits"
)

const (
	highs = 0x8080808080808080
	ones  = 0x0101010101010101
)

// mark holds text folded and which bytes of it are hexadecimal digits.
type mark struct {
	text     []byte
	hex      []uint64 // bit i%64 of number i/64 says that byte i is one
	dots     int
	nonASCII uint64 // not 0 if there is such a byte
}

// set folds s.
func (m *mark) set(s []byte) {
	n := len(s)
	if cap(m.text) < n+72 { // windows looks at 72 bytes
		m.text = make([]byte, 2*n+128)
		m.hex = make([]uint64, 2*n/64+3)
	}
	m.text = m.text[:n+72]
	m.hex = m.hex[:n/64+2]
	m.dots = 0
	clear(m.hex)
	i := 0
	for ; i+8 <= n; i += 8 {
		m.eight(i, binary.LittleEndian.Uint64(s[i:]))
	}
	if n >= 8 && i < n {
		x := binary.LittleEndian.Uint64(s[n-8:]) >> (8 * uint(8-(n-i)))
		m.eight(i, x)
	} else if i < n {
		x := uint64(0)
		for k, c := range s[i:] {
			x |= uint64(c) << (8 * uint(k))
		}
		m.eight(i, x)
	}
}

// short folds at most 64 bytes, of 4 or more, into text and returns which are
// hexadecimal digits.
func (m *mark) short(s []byte, text *[144]byte) (hex uint64) {
	n := len(s)
	var high, dots uint64
	for i := 0; i < n && i < 64; i += 8 {
		var x uint64
		switch {
		case i+8 <= n:
			x = binary.LittleEndian.Uint64(s[i:])
		case n >= 8:
			x = binary.LittleEndian.Uint64(s[n-8:]) >> (8 * uint(8-(n-i)) & 63)
		default:
			x = uint64(binary.LittleEndian.Uint32(s)) | uint64(binary.LittleEndian.Uint32(s[n-4:]))<<(8*uint(n-4)&63)
		}
		high |= x
		y := x &^ highs
		upper := (y + (0x80-'A')*ones) &^ (y + (0x80-'Z'-1)*ones) & highs &^ x
		x |= upper >> 2
		y |= upper >> 2
		digit := (y + (0x80-'0')*ones) &^ (y + (0x80-'9'-1)*ones)
		letter := (y + (0x80-'a')*ones) &^ (y + (0x80-'f'-1)*ones)
		dot := x ^ '.'*ones
		dots += (^((dot&^highs + 0x7f*ones) | dot) & highs) >> 7
		binary.LittleEndian.PutUint64(text[i:], x)
		hex |= ((digit | letter) & highs &^ x) >> 7 * 0x0102040810204080 >> 56 << (i & 63)
	}
	binary.LittleEndian.PutUint64(text[(n+7)&^7:], 0)
	m.nonASCII |= high & highs
	m.dots = int(dots * ones >> 56)
	return hex
}

// eight folds eight bytes; all comparisons are made on all of them at once.
func (m *mark) eight(i int, x uint64) {
	high := x & highs
	m.nonASCII |= high
	y := x &^ highs
	upper := (y + (0x80-'A')*ones) &^ (y + (0x80-'Z'-1)*ones) & highs &^ high
	x |= upper >> 2
	y |= upper >> 2
	digit := (y + (0x80-'0')*ones) &^ (y + (0x80-'9'-1)*ones)
	letter := (y + (0x80-'a')*ones) &^ (y + (0x80-'f'-1)*ones)
	hex := (digit | letter) & highs &^ high
	dot := x ^ '.'*ones
	dot = ^((dot&^highs + 0x7f*ones) | dot) & highs
	m.dots += bits.OnesCount64(dot)
	binary.LittleEndian.PutUint64(m.text[i:], x)
	m.hex[i>>6] |= hex >> 7 * 0x0102040810204080 >> 56 << (i & 63)
}

// piece gathers the grams of s, as if it were a line, that begin before a limit.
func (k *sink) piece(s []byte, limit int) {
	n := len(s)
	m := &k.mark
	if n < 4 {
		for _, c := range s {
			m.nonASCII |= uint64(c) & 0x80
		}
		return
	}
	limit = min(limit, n-3)
	if n <= 64 {
		hex := [2]uint64{m.short(s, &k.text)}
		k.windows(k.text[:], hex[0], 0, limit, n)
		k.chosen(k.text[:], hex[:], limit)
	} else {
		m.set(s)
		// Of every 64 bytes those places whose runs of digits can be told: a class
		// depends on up to 19 digits before and behind.
		const first, margin, step = 45, 18, 27
		k.windows(m.text, m.hex[0], 0, min(first, limit), n)
		for base := first; base < limit; base += step {
			off := base - margin
			hex := m.hex[off>>6]>>(off&63) | m.hex[off>>6+1]<<(63-off&63)<<1
			k.windows(m.text[off:], hex, margin, min(margin+step, limit-off), n-off)
		}
		k.chosen(m.text, m.hex, limit)
	}
	if m.dots >= 2 {
		text := m.text
		if n <= 64 {
			text = k.text[:]
		}
		k.dotted(text, n)
	}
}

// windows gathers the grams that begin at text[from … to-1] of n bytes, but not those
// with dots. hex says which bytes are digits. There are no branches but the loop's: what
// text holds cannot be foretold.
func (k *sink) windows(text []byte, hex uint64, from, to, n int) {
	four := hex & (hex >> 1)
	four &= four >> 2
	// Those of four that are in runs of 12 digits or more, and of 20 or more.
	eight := four & (four >> 1)
	eight &= eight >> 2
	eight &= eight >> 4
	mids, longs := eight&(four>>8), uint64(0)
	if mids != 0 {
		mids |= mids << 1
		mids |= mids << 2
		mids |= mids << 4
		mids |= mids << 1
		longs = eight & (eight >> 8) & (four >> 16)
		longs |= longs << 1
		longs |= longs << 2
		longs |= longs << 4
		longs |= longs << 8
		longs |= longs << 1
	}
	valid := ^four
	if n >= 6 {
		valid |= ^uint64(0) >> uint(max(0, 64-(n-5)))
	}
	// What is to be done at each place, eight at a time: there are tables of it.
	var kinds [64]byte
	for i := from &^ 7; i < to; i += 8 {
		c := spread[byte(four>>i)] | spread[byte(^valid>>i)]<<2
		if mids != 0 {
			c += spread[byte(mids>>i)] + spread[byte(longs>>i)]
		}
		binary.LittleEndian.PutUint64(kinds[i&56:], c)
	}
	window := (*[72]byte)(text)
	if len(k.marks) == 0 {
		k.gather(window, &kinds, from, to)
		return
	}
	marks, rows := k.marks, uint64(k.rows)
	for i := from; i < to; i++ {
		m := &k.kinds[kinds[i&63]&7]
		h := hash(binary.LittleEndian.Uint64(window[i&63:]) & m.gram)
		r := h >> 32 * rows >> 32
		marks[r>>6] |= one(h&m.level == 0) << (r & 63)
	}
}

// one returns 1 for true. There is no branch.
func one(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// masks says of a class of grams, or of what is none, which bytes of a window are the
// gram and which bits of its hash must be 0.
type masks struct{ gram, level uint64 }

// spread has bit i of a number as byte i.
var spread = func() (t [256]uint64) {
	for b := range t {
		for i := range 8 {
			t[b] |= uint64(b>>i&1) << (8 * i)
		}
	}
	return t
}()

// gather lists the grams of windows, of these kinds.
func (k *sink) gather(window *[72]byte, kinds *[64]byte, from, to int) {
	lists, recent := &k.scratch, &k.recent
	var counts [classes]int
	for i := from; i < to; i++ {
		c := class(kinds[i&63])
		if c >= classes {
			continue // near the end only
		}
		gram := uint64(mask6)
		if c == word {
			gram = mask4
		}
		h := hash(binary.LittleEndian.Uint64(window[i&63:]) & gram)
		r := &recent[h>>40&(recents-1)]
		lists[c][counts[c]&63] = h
		counts[c] += int(one(*r != h^salt(c)))
		*r = h ^ salt(c)
	}
	for c, n := range counts {
		k.listed += n
		for _, h := range lists[c][:n] {
			k.linear[c].add(h)
		}
		if k.listed <= maxListed {
			k.lists[c] = append(k.lists[c], lists[c][:n]...)
		}
	}
}

// dotted gathers the windows of digits and two dots or more.
func (k *sink) dotted(text []byte, n int) {
	hashes := &k.scratch[word]
	for base := 0; base+8 <= n; base += 48 {
		// Of the next 56 bytes, which are digits or dots, and which are dots.
		var both, dots uint64
		for i := 0; i < 56 && base+i < n; i += 8 {
			x := binary.LittleEndian.Uint64(text[base+i:]) // zeros behind n
			y := x &^ highs
			digit := (y + (0x80-'0')*ones) &^ (y + (0x80-'9'-1)*ones) & highs &^ x
			dot := x ^ '.'*ones
			dot = ^((dot&^highs + 0x7f*ones) | dot) & highs
			both |= (digit | dot) >> 7 * 0x0102040810204080 >> 56 << i
			dots |= dot >> 7 * 0x0102040810204080 >> 56 << i
		}
		all := both & (both >> 1)
		all &= all >> 2
		all &= all >> 4
		if all &= 1<<48 - 1; all == 0 {
			continue
		}
		count := 0
		for ; all != 0; all &= all - 1 {
			i := bits.TrailingZeros64(all)
			if bits.OnesCount64(dots>>i&0xff) >= 2 {
				hashes[count&63] = hash(binary.LittleEndian.Uint64(text[base+i:]) ^ dottedSalt)
				count++
			}
		}
		k.put(word, hashes[:count])
	}
}

// sink takes the grams of a block: into the block's bits, or, as long as the shape of
// the matrix is not known, into lists.
type sink struct {
	mark mark

	rows    uint32
	kinds   [8]masks
	marks   []uint64      // a bit for each row; empty: gather
	chooses [classes]bool // grams of the class are chosen besides those that its level keeps

	hashes    [64]uint64 // scratch of choices
	two, four [64]int64
	text      [144]byte // of a short piece, folded, and what is looked at behind it

	scratch [classes][64]uint64
	lists   [kinds][]uint64
	recent  [recents]uint64 // lately listed
	linear  [kinds]counter
	listed  int
}

// maxListed bounds the memory for lists; with more grams the block is gone through
// a second time.
const maxListed = 1 << 20

const recents = 1 << 13

// salt tells apart grams of several classes.
func salt(c class) uint64 { return uint64(c+1) * golden }

func (k *sink) put(c class, hashes []uint64) {
	if len(k.marks) == 0 {
		k.list(c, hashes)
		return
	}
	marks, rows, mask := k.marks, uint64(k.rows), k.kinds[c].level
	for _, h := range hashes {
		r := h >> 32 * rows >> 32
		marks[r>>6] |= one(h&mask == 0) << (r & 63)
	}
}

// putAll is put of grams that no level leaves out.
func (k *sink) putAll(hashes []uint64) {
	marks, rows := k.marks, uint64(k.rows)
	for _, h := range hashes {
		r := h >> 32 * rows >> 32
		marks[r>>6] |= 1 << (r & 63)
	}
}

func (k *sink) list(c class, hashes []uint64) {
	for _, h := range hashes {
		r := &k.recent[h>>40&(recents-1)]
		if *r == h^salt(c) {
			continue
		}
		*r = h ^ salt(c)
		k.linear[c].add(h)
		if k.listed < maxListed {
			k.lists[c] = append(k.lists[c], h)
		}
		k.listed++
	}
}

// counter counts distinct hashes, about: by how many of its bits are set.
type counter struct{ bits []uint64 }

const counterBits = 1 << 20

func (c *counter) add(h uint64) {
	h &= counterBits - 1
	c.bits[h>>6] |= 1 << (h & 63)
}
