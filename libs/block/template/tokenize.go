package template

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
)

// timeFlag marks a slot that is an in-line time.
const timeFlag = 1 << 31

// Slot is where a slot of a line is in the lines' slab.
type Slot uint64 // offset<<32 | length, timeFlag

// SlotOf returns the slot from start to end, which is no in-line time.
func SlotOf(start, end int) Slot { return Slot(start)<<32 | Slot(end-start) }

// Start returns where the slot begins.
func (s Slot) Start() uint32 { return uint32(s >> 32) }

// End returns where the slot ends.
func (s Slot) End() uint32 { return uint32(s>>32) + uint32(s)&^timeFlag }

// IsTime reports whether it is an in-line time.
func (s Slot) IsTime() bool { return s&timeFlag != 0 }

// Len returns the slot's length.
func (s Slot) Len() uint32 { return uint32(s) &^ timeFlag }

// rawTemplate is a distinct line with its slots masked.
type rawTemplate struct {
	text  []byte
	hash  uint64
	slots int // in-line times included
	rows  int // in this block
	kind  uint64
	final int // merged template
	same  bool
	spans []span // of the merged template's values, unless they are the same
}

// A span is one value of a merged template in terms of the raw one's slots: a slot
// itself, or a stretch of the line from startOff bytes behind the end of one slot
// (-1: the line's start) to endOff bytes behind the end of another.
type span struct {
	whole            bool
	start, end       int32 // slots; only start unless whole
	startOff, endOff uint32
}

// tokenizer turns lines into raw templates and slots.
type tokenizer struct {
	layouts []Layout
	digital [maxRun + 1][]Layout // those that begin with a digit, by how many they begin with
	named   []Layout             // those that begin with a letter
	klog    []Layout             // those that come right behind a letter
	clocks  []clock              // by layout
	// canBegin tells for a run of letters and digits, by how long it is from its first
	// digit on, whether a time can begin there.
	canBegin [32]bool

	raws  []rawTemplate
	table []int32 // open addressing, number+1
	arena []byte  // texts
	text  int     // bytes of all texts

	// Of the current block.
	kind   uint64  // of lines that come
	unseen int     // lookups of templates not seen before
	rows   []int32 // raw template of each row
	slots  []Slot
	deltas []int64 // of each in-line time: entry time, floored, less the time
	buf    []byte
}

// reset begins a section: with the template Raw only.
func (t *tokenizer) reset(found []Layout) {
	*t = tokenizer{table: make([]int32, 1024), clocks: t.clocks, rows: t.rows[:0], slots: t.slots[:0], deltas: t.deltas[:0], buf: t.buf}
	if t.clocks == nil {
		t.clocks = make([]clock, len(layouts))
	}
	t.extend(found)
	t.lookup([]byte{markRaw}, 1)
}

// extend makes layouts of times known, if they are not, as long as there is room.
func (t *tokenizer) extend(found []Layout) {
	known := len(t.layouts)
	for _, l := range found {
		if len(t.layouts) < maxLayouts && !slices.Contains(t.layouts, l) {
			t.layouts = append(t.layouts, l)
		}
	}
	if len(t.layouts) == known {
		return
	}
	// Of two as long the lower number is tried first.
	slices.SortFunc(t.layouts, func(a, b Layout) int {
		return cmp.Or(layouts[b].n-layouts[a].n, int(a)-int(b))
	})
	t.digital, t.named, t.klog, t.canBegin = [maxRun + 1][]Layout{}, t.named[:0], t.klog[:0], [32]bool{}
	for _, l := range t.layouts {
		lay := layouts[l]
		switch {
		case lay.pattern == "md H:M:S.f":
			t.klog = append(t.klog, l)
			t.digital[lay.run] = append(t.digital[lay.run], l)
		case lay.letter:
			t.named = append(t.named, l)
			t.canBegin[1], t.canBegin[2] = true, true
			continue
		default:
			t.digital[lay.run] = append(t.digital[lay.run], l)
		}
		t.canBegin[lay.run] = true
	}
}

// begin starts a block.
func (t *tokenizer) begin() {
	for i := range t.raws {
		t.raws[i].rows = 0
	}
	t.unseen = 0
	t.rows, t.slots, t.deltas = t.rows[:0], t.slots[:0], t.deltas[:0]
}

// lookup returns the number of a raw template, or -1 when it is new and there is no
// room: lines that share no templates are kept as they are.
func (t *tokenizer) lookup(text []byte, slots int) int32 {
	h := maphash.Bytes(seed, text)
	mask := uint64(len(t.table) - 1)
	i := h & mask
	for ; t.table[i] != 0; i = (i + 1) & mask {
		k := t.table[i] - 1
		if r := &t.raws[k]; r.hash == h && bytes.Equal(r.text, text) {
			r.rows++
			return k
		}
	}
	t.unseen++
	if len(t.raws) >= maxRaws || t.text+len(text) > maxText || t.unseen > 1024 && t.unseen*3 > len(t.rows) {
		return -1
	}
	if cap(t.arena)-len(t.arena) < len(text) {
		t.arena = make([]byte, 0, max(64<<10, len(text))) // older texts keep theirs
	}
	at := len(t.arena)
	t.arena = append(t.arena, text...)
	t.text += len(text)
	t.raws = append(t.raws, rawTemplate{text: t.arena[at:len(t.arena):len(t.arena)], hash: h, slots: slots, rows: 1, kind: t.kind})
	t.table[i] = int32(len(t.raws))
	if len(t.raws)*2 > len(t.table) {
		t.table = make([]int32, len(t.table)*4)
		mask = uint64(len(t.table) - 1)
		for k := range t.raws {
			j := t.raws[k].hash & mask
			for t.table[j] != 0 {
				j = (j + 1) & mask
			}
			t.table[j] = int32(k + 1)
		}
	}
	return int32(len(t.raws) - 1)
}

// nextDigit returns the place of the next digit, or byte that templates cannot
// hold, in s from i on; len(s) if there is none.
func nextDigit(s []byte, i int) int {
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		y := x ^ 0x3030303030303030
		m := ^((y&0x7f7f7f7f7f7f7f7f + 0x7676767676767676) | y) // bytes of y under 10
		m |= ^((x&0x7f7f7f7f7f7f7f7f + 0x7d7d7d7d7d7d7d7d) | x) // bytes of x under 3
		if m &= 0x8080808080808080; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(s); i++ {
		if isDigit(s[i]) || s[i] <= markRaw {
			return i
		}
	}
	return i
}

// line tokenizes one line, which begins at start of the slab.
func (t *tokenizer) line(s []byte, start uint32, entry int64) {
	slots0, deltas0 := len(t.slots), len(t.deltas)
	text, ok := t.mask(s, start, entry)
	if ok {
		if k := t.lookup(text, len(t.slots)-slots0); k >= 0 {
			t.rows = append(t.rows, k)
			return
		}
	}
	t.slots = append(t.slots[:slots0], Slot(start)<<32|Slot(len(s)))
	t.deltas = t.deltas[:deltas0]
	t.raws[0].rows++
	t.rows = append(t.rows, 0)
}

// mask finds the slots of a line and returns its text with marks in their place;
// not ok if the line cannot have a template.
func (t *tokenizer) mask(s []byte, start uint32, entry int64) (text []byte, ok bool) {
	if len(s) > MaxTokenized {
		return nil, false
	}
	if cap(t.buf) < 2*len(s)+16 { // a slot of a byte may become a mark of two
		t.buf = make([]byte, 4*len(s)+256)
	}
	text = t.buf[:0]
	slots := 0
	for end := 0; ; {
		j := nextDigit(s, end)
		if j == len(s) {
			return append(text, s[end:]...), true
		}
		if slots++; s[j] <= markRaw || slots > MaxSlots {
			return text, false
		}
		// The run of letters and digits around the digit.
		a, e := j, j+1
		for a > end && isAlnum[s[a-1]] {
			a--
		}
		for e < len(s) && isAlnum[s[e]] {
			e++
		}
		if t.canBegin[min(e-j, len(t.canBegin)-1)] {
			if at, l, v := t.findTime(s, end, a, j, e, entry); at >= 0 {
				text = appendLiteral(text, s, end, at)
				text = append(text, markTime, layoutBase+byte(l))
				n := layouts[l].n
				t.slots = append(t.slots, Slot(start+uint32(at))<<32|timeFlag|Slot(n))
				t.deltas = append(t.deltas, l.Floor(entry)-v)
				end = at + n
				continue
			}
		}
		switch {
		case e == len(s):
		case s[e] == '.' && e-a <= 3 && a == j:
			if n := column.IPv4Prefix(s[a:]); n > 0 {
				e = a + n
			}
		case s[e] == '-' && e-a == 8 && column.IsUUID(s[a:]) && (len(s)-a == column.UUIDLen || !alnum(s[a+column.UUIDLen])):
			e = a + column.UUIDLen
		}
		if s[a] == '0' && e-a > 2 && s[a+1] == 'x' {
			a += 2
		}
		text = append(appendLiteral(text, s, end, a), markSlot)
		t.slots = append(t.slots, Slot(start+uint32(a))<<32|Slot(e-a))
		end = e
	}
}

// appendLiteral appends s[from:to] to a text with room for it. Short ones are many.
func appendLiteral(text, s []byte, from, to int) []byte {
	n := len(text)
	if to-from <= 16 && from+16 <= len(s) && n+16 <= cap(text) {
		in, out := s[from:from+16], text[n:n+16]
		binary.LittleEndian.PutUint64(out, binary.LittleEndian.Uint64(in))
		binary.LittleEndian.PutUint64(out[8:], binary.LittleEndian.Uint64(in[8:]))
		return text[:n+to-from]
	}
	return append(text, s[from:to]...)
}

// findTime tries the layouts at the run [a, e) of letters and digits whose first
// digit is at j; nothing before end is free. It returns where the time begins, or -1.
func (t *tokenizer) findTime(s []byte, end, a, j, e int, entry int64) (int, Layout, int64) {
	try := func(l Layout, at int) (int64, bool) {
		lay := layouts[l]
		if n := lay.n; at < end || len(s)-at < n || at+n < len(s) && isDigit(s[at+n]) || !lay.likely(s[at:]) {
			return 0, false
		}
		return t.clocks[l].parse(lay, s[at:], entry)
	}
	if a == j {
		if e-j > maxRun {
			return -1, 0, 0
		}
		for _, l := range t.digital[e-j] {
			lay := layouts[l]
			if lay.run == lay.n || e < len(s) && s[e] == lay.shape[lay.run] {
				if v, ok := try(l, j); ok {
					return j, l, v
				}
			}
		}
		if e-j > 2 || e == len(s) || s[e] != ' ' {
			return -1, 0, 0
		}
		for _, l := range t.named {
			// A padded day of one digit comes one byte later.
			for p := j - layouts[l].digit; p >= j-layouts[l].digit-1; p-- {
				if p < end || p > 0 && alnum(s[p-1]) {
					continue
				}
				if v, ok := try(l, p); ok {
					return p, l, v
				}
			}
		}
	} else if j == a+1 && e-a == 5 {
		for _, l := range t.klog {
			if v, ok := try(l, j); ok {
				return j, l, v
			}
		}
	}
	return -1, 0, 0
}
