package grams

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/weir-logs/weir/libs/block/template"
)

// DefaultShare is the share of a block's stored bytes that its grams may take.
const DefaultShare = 0.05

const (
	bitsPerGram = 1.6  // while the budget allows it
	minPerGram  = 1.15 // before grams are left out
	rowsUnit    = 512

	// Blocks of one group have the same rows; one that would fill more, or less,
	// of them than this share begins another group.
	minDensity, maxDensity = 0.25, 0.65

	maxGroup = 64 // blocks
)

// weights says how dear a class is, compared with what it helps.
var weights = [classes]float64{0.4, 1, 2, 4}

// lastWeight is how much less dear a class is at the last level at which grams are chosen.
const lastWeight = 1. / 16

// Builder builds the matrix of a section. It is for one goroutine at a time. Its
// memory is about 10 MiB, plus the matrix.
type Builder struct {
	share  float64
	sink   sink
	groups []group
	shapes []Shape  // of groups of a matrix like this, in their order
	values []uint64 // of the block to come
	recent [1 << 10]uint64
	seen   [1 << 13]piece  // looked at lately
	wholes [1 << 13]piece  // likewise, cut in chunks
	alones [1 << 12]value  // short slots looked at lately
	starts []int32         // of each shape, where in lasts its slots are, plus one
	lasts  []template.Slot // of each shape, those of its last line
	news   []uint8         // of each of lasts: pieces at its place not seen lately, one after the other

	besides Text    // more lines
	more    []byte  // text of pieces
	pieces  []Piece // besides the lines
}

// Shape is how many rows the columns of some blocks have, and which grams are in them.
type Shape struct {
	rows   uint32
	levels [classes]uint8
}

// group is blocks whose columns have the same rows.
type group struct {
	Shape
	nonASCII bool
	first    int
	blocks   int
	columns  [][]uint64 // while it is built
	matrix   []byte     // when it is read
}

// NewBuilder returns the builder of an empty matrix whose grams take about the given
// share of the blocks' stored bytes.
func NewBuilder(share float64) *Builder { return &Builder{share: share} }

// Reset begins the matrix of another section.
func (b *Builder) Reset() {
	b.groups, b.values, b.shapes = b.groups[:0], b.values[:0], nil
	clear(b.recent[:]) // a block may have failed before it was added
}

// Shapes returns those of the matrix so far.
func (b *Builder) Shapes() []Shape {
	var out []Shape
	for i := range b.groups {
		out = append(out, b.groups[i].Shape)
	}
	return out
}

// Expect says that the matrix, of which there is nothing yet, is likely to have these
// shapes, in this order. They are tried before others are looked for, which takes longer.
func (b *Builder) Expect(shapes []Shape) { b.shapes = shapes }

// Blocks returns the number of blocks so far.
func (b *Builder) Blocks() int {
	n := 0
	for i := range b.groups {
		n += b.groups[i].blocks
	}
	return n
}

// AddValue notes a value of structured metadata for the block that is added next.
// Each distinct value need be given once.
func (b *Builder) AddValue(name, value []byte) {
	h := hashValue(name, value)
	r := &b.recent[h>>40&uint64(len(b.recent)-1)]
	if len(b.values) > 0 && *r == h {
		return
	}
	*r = h
	b.values = append(b.values, h)
}

// Rows are the rows of a block: where their lines end, the slots in the lines, and the
// lines' shapes. Lines of one shape have all bytes but those in slots in common. Shapes
// are small numbers.
type Rows struct {
	Ends   []uint32
	Shapes []uint32        // of each row
	Slots  []template.Slot // of all rows, one behind the other
	Counts []int32         // of slots, by shape
}

// AddBlock adds a block of lines, which has so many stored bytes.
func (b *Builder) AddBlock(slab []byte, rows *Rows, stored int) {
	n := len(b.groups)
	if n > 0 && b.groups[n-1].blocks < maxGroup {
		g := &b.groups[n-1]
		if column, ok := b.try(g, slab, rows); ok {
			b.add(g, column)
			return
		}
	}
	first := b.Blocks()
	b.groups = append(b.groups, group{first: first})
	g := &b.groups[n]
	if n < len(b.shapes) {
		g.Shape = b.shapes[n]
		if column, ok := b.try(g, slab, rows); ok {
			b.add(g, column)
			return
		}
		g.Shape = Shape{}
	}
	b.add(g, b.pilot(g, slab, rows, stored))
}

// try returns the bits of a block, and whether the group's shape fits them.
func (b *Builder) try(g *group, slab []byte, rows *Rows) ([]uint64, bool) {
	column := b.column(g, slab, rows)
	set := 0
	for _, x := range column {
		set += bits.OnesCount64(x)
	}
	d := float64(set) / float64(g.rows)
	return column, d >= minDensity && d <= maxDensity
}

func (b *Builder) add(g *group, column []uint64) {
	g.nonASCII = g.nonASCII || b.sink.mark.nonASCII != 0
	g.columns = append(g.columns, column)
	g.blocks++
	b.values = b.values[:0]
	clear(b.recent[:]) // they are of this block
}

// column returns the bits of a block.
func (b *Builder) column(g *group, slab []byte, rows *Rows) []uint64 {
	k := &b.sink
	k.shape(g)
	b.gather(slab, rows)
	b.putValues(g.rows)
	return slices.Clone(k.marks)
}

func (k *sink) shape(g *group) {
	k.rows = g.rows
	if n := int(g.rows+63) / 64; cap(k.marks) < n {
		k.marks = make([]uint64, n, n+n/4)
	} else {
		k.marks = k.marks[:n]
		clear(k.marks)
	}
	for c := range k.kinds {
		k.kinds[c] = masks{mask6, ^uint64(0)}
	}
	for c, l := range g.levels {
		k.kinds[c].level = 1<<l - 1
		k.chooses[c] = class(c) >= mid && l > 0 && l <= chosenLevel
	}
	k.kinds[word].gram = mask4
}

func (b *Builder) putValues(rows uint32) {
	for _, h := range b.values {
		for i := range valueRows {
			r := valueRow(h, i, rows)
			b.sink.marks[r>>6] |= 1 << (r & 63)
		}
	}
}

// pilot shapes a group by its first block, whose bits it returns.
func (b *Builder) pilot(g *group, slab []byte, rows *Rows, stored int) []uint64 {
	k := &b.sink
	k.marks, k.listed = k.marks[:0], 0
	clear(k.recent[:])
	for c := range k.lists {
		k.lists[c] = k.lists[c][:0]
		if k.linear[c].bits == nil {
			k.linear[c].bits = make([]uint64, counterBits/64)
		}
		clear(k.linear[c].bits)
	}
	b.gather(slab, rows)
	g.choose(&k.linear, float64(stored)*b.share, len(b.values)*valueRows)
	if k.listed > maxListed {
		return b.column(g, slab, rows)
	}
	lists := k.lists
	k.shape(g)
	for c, l := range lists[:classes] {
		k.put(class(c), l)
	}
	for c := mid; c < classes; c++ {
		if k.chooses[c] {
			k.putAll(lists[c+besides])
		}
	}
	b.putValues(g.rows)
	return slices.Clone(k.marks)
}

// choose chooses rows and levels for a budget of bytes. Rows for values come on top:
// they are worth it, as values themselves take far more.
func (g *group) choose(seen *[kinds]counter, budget float64, values int) {
	var counts [classes]float64 // at their levels
	for c := range counts {
		counts[c] = seen[c].count(0)
	}
	weight := func(c class) float64 {
		if c >= mid && g.levels[c] == chosenLevel { // no more are chosen beyond
			return weights[c] * lastWeight
		}
		return weights[c]
	}
	for {
		n := 0.0
		for _, x := range counts {
			n += x
		}
		rows := n * bitsPerGram
		if rows > budget*8 && n*minPerGram <= budget*8 {
			rows = budget * 8
		}
		dearest := class(-1)
		if rows > budget*8 {
			for c, l := range g.levels {
				if c := class(c); l < maxLevel && counts[c] > 0 && (dearest < 0 || counts[c]*weight(c) > counts[dearest]*weight(dearest)) {
					dearest = c
				}
			}
		}
		if dearest < 0 {
			rows = math.Ceil((rows + float64(values)*bitsPerGram) / rowsUnit)
			g.rows = uint32(max(1, min(rows, maxRows/rowsUnit))) * rowsUnit
			return
		}
		g.levels[dearest]++
		l := g.levels[dearest]
		counts[dearest] = seen[dearest].count(l)
		if dearest >= mid && l <= chosenLevel {
			c := &seen[dearest+besides]
			counts[dearest] += c.count(0) - c.count(l)
		}
	}
}

// count estimates how many distinct hashes have so many trailing zeros at least.
func (c *counter) count(level uint8) float64 {
	if level > 6 { // no longer told apart within a word
		return c.count(level-1) / 2
	}
	set, mask := 0, everySecond[level]
	for _, x := range c.bits {
		set += bits.OnesCount64(x & mask)
	}
	m := float64(int(counterBits) >> level)
	return -m * math.Log(max(1, m-float64(set))/m)
}

// everySecond[l] has the bits whose numbers have l trailing zeros or more.
var everySecond = [7]uint64{^uint64(0), 0x5555555555555555, 0x1111111111111111, 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1}

// Pieces reach so far beyond what changed, so that every gram that touches it is in them.
const (
	before = 3
	behind = 3 // what is looked at ends where a run of digits or dots does
	// beforeHex is how far they do if the gram that begins there begins with digits.
	beforeHex = 5
)

// inRun says of bytes in either case whether they are hexadecimal digits or dots.
var inRun = func() (t [256]bool) {
	for c := range t {
		t[c] = isHex(byte(c)|0x20) && c < 0x80 || isHex(byte(c)) || c == '.'
	}
	return t
}()

// gather gives the sink the grams of all rows, and of what comes besides.
func (b *Builder) gather(slab []byte, rows *Rows) {
	b.sink.mark.nonASCII = 0
	b.lines(slab, rows)
	b.lines(b.besides.Slab, &b.besides.Rows)
	b.gatherPieces()
}

// lines gives the sink the grams of lines. What lines of one shape have in common
// is looked at once; of the others, pieces around bytes that changed from the last line
// of the shape to the next. Each distinct piece is looked at about once.
func (b *Builder) lines(slab []byte, rows *Rows) {
	if len(rows.Ends) == 0 {
		return
	}
	clear(b.seen[:])
	clear(b.wholes[:])
	clear(b.alones[:])
	b.starts = append(b.starts[:0], make([]int32, len(rows.Counts))...)
	b.lasts, b.news = b.lasts[:0], b.news[:0]
	start, slots := uint32(0), rows.Slots
	for i, end := range rows.Ends {
		shape := rows.Shapes[i]
		n := int(rows.Counts[shape])
		own := slots[:n]
		slots = slots[n:]
		if base := b.starts[shape]; base > 0 {
			b.changes(slab, start, end, own, b.lasts[base-1:][:n], b.news[base-1:][:n])
		} else {
			b.chunks(slab, piece{start, end, end}, end)
			b.lasts = append(b.lasts, own...)
			b.news = append(b.news, make([]uint8, n)...)
			b.starts[shape] = int32(len(b.lasts)-n) + 1
		}
		start = end
	}
}

// piece is part of a line: grams that begin at from … limit-1 are wanted, and lie
// before to.
type piece struct{ from, limit, to uint32 }

const (
	// maxNews is after how many new pieces those at their place are no longer looked up.
	maxNews = 32
	// near is how far apart changes are that are looked at together.
	near = 8
	// maxPiece is how long slots are at most that are looked at as a whole: of longer
	// ones parts recur.
	maxPiece = 32
	// minChunk is how long pieces of whole lines are at least.
	minChunk = 16
)

// changes gathers the grams of a line that the last one of its shape has not, whose
// slots become this one's.
func (b *Builder) changes(slab []byte, start, end uint32, own, lasts []template.Slot, news []uint8) {
	from, to, at := uint32(0), uint32(0), -1 // what changed, and the slot where it begins
	for j, s := range own {
		o := lasts[j]
		first, n := s.Start(), s.Len()
		behind := first + n
		if n > maxPiece {
			if n == o.Len() && string(slab[first:behind]) == string(slab[o.Start():o.End()]) {
				continue
			}
			lasts[j] = s
			if at >= 0 {
				b.piece(slab, widen(slab, start, end, from, to), &news[at])
				at = -1
			}
			if p := widen(slab, start, end, first, behind); fresh(b.wholes[:], slab, p) {
				b.chunks(slab, p, end)
			}
			continue
		}
		if n == o.Len() {
			if n-1 < 8 && int(first)+8 <= len(slab) && int(o.Start())+8 <= len(slab) {
				x := binary.LittleEndian.Uint64(slab[first:]) ^ binary.LittleEndian.Uint64(slab[o.Start():])
				x <<= 64 - 8*n
				if x == 0 {
					continue
				}
				first = behind - 8 + uint32(bits.TrailingZeros64(x))>>3
				behind -= uint32(bits.LeadingZeros64(x)) >> 3
			} else {
				i, k := Differ(slab[first:behind], slab[o.Start():][:n])
				if i == k {
					continue
				}
				behind = first + uint32(k)
				first += uint32(i)
			}
		}
		lasts[j] = s
		if news[j] < maxNews && b.alone(slab, start, end, s, &news[j]) {
			continue
		}
		if at >= 0 && first <= to+near {
			to = behind
			continue
		}
		if at >= 0 {
			b.piece(slab, widen(slab, start, end, from, to), &news[at])
		}
		from, to, at = first, behind, j
	}
	if at >= 0 {
		b.piece(slab, widen(slab, start, end, from, to), &news[at])
	}
}

// Differ returns where a and b, of one length, begin to differ, and behind which byte
// they no longer do.
func Differ(a, b []byte) (from, to int) {
	i, n := 0, len(a)
	for i+8 <= n && binary.LittleEndian.Uint64(a[i:]) == binary.LittleEndian.Uint64(b[i:]) {
		i += 8
	}
	for i < n && a[i] == b[i] {
		i++
	}
	for n >= i+8 && binary.LittleEndian.Uint64(a[n-8:]) == binary.LittleEndian.Uint64(b[n-8:]) {
		n -= 8
	}
	for n > i && a[n-1] == b[n-1] {
		n--
	}
	return i, n
}

// widen returns the piece with every gram which depends on bytes from … to-1 of the
// line from start to end, be it only for its class.
func widen(slab []byte, start, end, from, to uint32) piece {
	p := piece{from - min(before, from-start), to, 0}
	if from-start > before && inRun[slab[from-2]] && inRun[slab[from-3]] && inRun[slab[from-4]] {
		p.from = from - min(beforeHex, from-start)
	}
	for p.from > start && inRun[slab[p.from]] && inRun[slab[p.from-1]] {
		p.from--
	}
	// Digits behind, too: what was there before may have been one of their run.
	for p.limit < end && inRun[slab[p.limit]] {
		p.limit++
	}
	p.to = min(p.limit+behind, end)
	return p
}

// piece gathers the grams of a piece, unless it was seen lately: where pieces never
// were, that is not asked.
func (b *Builder) piece(slab []byte, p piece, news *uint8) {
	switch {
	case *news >= maxNews:
		b.sink.piece(slab[p.from:p.to], int(p.limit-p.from))
	case b.distinct(slab, p):
		*news++
	default:
		*news = 0
	}
}

// distinct gathers the grams of a piece not seen lately.
func (b *Builder) distinct(slab []byte, p piece) bool {
	if p.limit <= p.from || !fresh(b.seen[:], slab, p) {
		return false
	}
	b.sink.piece(slab[p.from:p.to], int(p.limit-p.from))
	return true
}
