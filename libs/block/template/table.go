package template

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"github.com/weir-logs/weir/libs/block/column"
)

func sortCounts(c []Count) {
	slices.SortFunc(c, func(a, b Count) int {
		if d := cmp.Compare(b.Rows, a.Rows); d != 0 {
			return d
		}
		return cmp.Compare(a.Template, b.Template)
	})
}

// Template is a line's literal text with slots.
type Template struct {
	// Text holds marks in the slots' place: see docs/format/block.md.
	Text []byte
	// Columns is the column of each slot, in the order of the text.
	Columns []uint32
}

// Table is the templates and columns of a section. Read-only, so safe for
// concurrent use.
type Table struct {
	Templates []Template
	Columns   []Column

	texts []byte // of a table that was read
}

// MemorySize returns about how many bytes of memory a table that was read takes besides its
// texts, which it shares with what it was read from.
func (t *Table) MemorySize() int {
	n := len(t.Templates)*int(unsafe.Sizeof(Template{})) + len(t.Columns)*int(unsafe.Sizeof(Column{}))
	for i := range t.Templates {
		n += 4 * len(t.Templates[i].Columns)
	}
	return n
}

// Texts returns the texts of all templates, end to end. They are shared.
func (t *Table) Texts() []byte {
	if t.texts != nil {
		return t.texts
	}
	var out []byte
	for i := range t.Templates {
		out = append(out, t.Templates[i].Text...)
	}
	return out
}

// Limits of what readers accept.
const (
	maxTableTemplates = 1 << 20
	maxTableColumns   = column.MaxColumns

	tableVersion = 1
)

// Table returns the templates with the given numbers, in that order, which is to
// say with new numbers 0, 1, …, and all the section's columns. It shares the analyzer's
// memory: it is valid until Reset, Next or the next block.
func (a *Analyzer) Table(numbers []uint32) *Table {
	t := &Table{Columns: a.cols, Templates: make([]Template, len(numbers))}
	for i, n := range numbers {
		f := &a.merger.out[n]
		t.Templates[i] = Template{f.text, f.cols}
	}
	return t
}

// A Piece is literal text and the slot behind it.
type Piece struct {
	Literal []byte
	Slot    bool // false: the template ends behind the literal
	IsTime  bool
	Layout  Layout
	Column  uint32
}

// Pieces returns the template in pieces; the last one has no slot.
func (t *Template) Pieces() []Piece { return t.AppendPieces(make([]Piece, 0, len(t.Columns)+1)) }

// AppendPieces appends the template in pieces to out, as Pieces does.
func (t *Template) AppendPieces(out []Piece) []Piece {
	lit, first := 0, len(out)
	for p, next := NextSlot(t.Text, 0); p < len(t.Text); p, next = NextSlot(t.Text, next) {
		s := Piece{Literal: t.Text[lit:p], Slot: true, Column: t.Columns[len(out)-first]}
		if t.Text[p] == markTime {
			s.IsTime, s.Layout = true, Layout(t.Text[p+1]-layoutBase)
		}
		out = append(out, s)
		lit = next
	}
	return append(out, Piece{Literal: t.Text[lit:]})
}

// NextSlot returns where the mark of the first slot of a template's text from a place on,
// which is not within one, begins and ends: both where the text ends if there is none.
func NextSlot(text []byte, p int) (from, to int) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; p+8 <= len(text); p += 8 {
		x := binary.LittleEndian.Uint64(text[p:])
		// The lowest bit that is left is right: those above may be of a carry.
		if low := (x - (markRaw+1)*ones) &^ x & highs; low != 0 {
			p += bits.TrailingZeros64(low) >> 3
			return p, p + 1 + int(text[p]&markTime)
		}
	}
	for ; p < len(text); p++ {
		if text[p] <= markRaw {
			return p, p + 1 + int(text[p]&markTime)
		}
	}
	return p, p
}

// IsRaw reports whether lines of the template are kept whole.
func (t *Template) IsRaw() bool { return len(t.Text) == 1 && t.Text[0] == markRaw }

// Append appends the encoded table.
func (t *Table) Append(dst []byte) []byte {
	size := 16 + len(t.Columns)
	for i := range t.Templates {
		size += 2 + len(t.Templates[i].Text) + 2*len(t.Templates[i].Columns)
	}
	dst = slices.Grow(dst, size)
	dst = append(dst, tableVersion)
	dst = binary.AppendUvarint(dst, uint64(len(t.Columns)))
	for _, c := range t.Columns {
		kind := byte(0)
		if c.IsTime {
			kind = layoutBase + byte(c.Layout)
		}
		dst = append(dst, kind)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Templates)))
	for i := range t.Templates {
		dst = binary.AppendUvarint(dst, uint64(len(t.Templates[i].Text)))
	}
	for i := range t.Templates {
		dst = append(dst, t.Templates[i].Text...)
	}
	for i := range t.Templates {
		for _, c := range t.Templates[i].Columns {
			dst = binary.AppendUvarint(dst, uint64(c))
		}
	}
	return dst
}

// ParseTable reads a table, whole and nothing but. The texts alias b.
func ParseTable(b []byte) (*Table, error) {
	if len(b) == 0 || b[0] != tableVersion {
		return nil, column.Corrupt("template table without a known version")
	}
	b = b[1:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > maxTableColumns || n > uint64(len(b)-k) {
		return nil, column.Corrupt("template table: %d columns in %d bytes", n, len(b))
	}
	t := &Table{Columns: make([]Column, n)}
	for i, c := range b[k : k+int(n)] {
		if c == 0 {
			continue
		}
		l := Layout(c - layoutBase)
		if c < layoutBase || !l.Valid() {
			return nil, column.Corrupt("template table: column of unknown kind %#x", c)
		}
		t.Columns[i] = Column{IsTime: true, Layout: l}
	}
	b = b[k+int(n):]
	n, k = binary.Uvarint(b)
	if k <= 0 || n > maxTableTemplates || n > uint64(len(b)-k) {
		return nil, column.Corrupt("template table: %d templates in %d bytes", n, len(b))
	}
	b = b[k:]
	t.Templates = make([]Template, n)
	lens := make([]int, n)
	for i := range lens {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > column.MaxFrame {
			return nil, column.Corrupt("template table ends within lengths")
		}
		b = b[k:]
		lens[i] = int(n)
	}
	texts := b
	for i, n := range lens {
		if n > len(b) {
			return nil, column.Corrupt("template table ends within texts")
		}
		t.Templates[i].Text = b[:n:n]
		b = b[n:]
	}
	t.texts = texts[: len(texts)-len(b) : len(texts)-len(b)]
	slots := 0
	for _, x := range b {
		if x < 0x80 { // the last byte of a number
			slots++
		}
	}
	all := make([]uint32, 0, slots)
	for i := range t.Templates {
		var err error
		if b, all, err = t.parseColumns(&t.Templates[i], b, all); err != nil {
			return nil, err
		}
	}
	if len(b) > 0 {
		return nil, column.Corrupt("template table: %d bytes too many", len(b))
	}
	return t, nil
}

// parseColumns reads the columns of a template's slots, which it appends to all.
func (t *Table) parseColumns(m *Template, b []byte, all []uint32) (rest []byte, _ []uint32, _ error) {
	from := len(all)
	for p, next := NextSlot(m.Text, 0); p < len(m.Text); p, next = NextSlot(m.Text, next) {
		mark := m.Text[p]
		c, k := binary.Uvarint(b)
		if k <= 0 || c >= uint64(len(t.Columns)) {
			return nil, nil, column.Corrupt("template table: slot of no column")
		}
		b = b[k:]
		want := Column{}
		switch mark {
		case markTime:
			if next > len(m.Text) || m.Text[p+1] < layoutBase {
				return nil, nil, column.Corrupt("template table: in-line time without layout")
			}
			want = Column{IsTime: true, Layout: Layout(m.Text[p+1] - layoutBase)}
		case markRaw:
			if len(m.Text) != 1 {
				return nil, nil, column.Corrupt("template table: text around a raw line")
			}
		}
		if t.Columns[c] != want {
			return nil, nil, column.Corrupt("template table: slot and column %d differ in kind", c)
		}
		all = append(all, uint32(c))
	}
	m.Columns = all[from:len(all):len(all)]
	return b, all, nil
}

// Union returns a table that serves the blocks of both a and b: those of a as they
// are, those of b with their templates and columns renumbered by the returned
// lists. No two columns of b become one, so payloads can be copied as they are.
func Union(a, b *Table) (u *Table, templates, columns []uint32) {
	u = &Table{Templates: slices.Clone(a.Templates), Columns: slices.Clone(a.Columns)}
	byContext := map[slotContext]uint32{}
	byText := map[string][]uint32{}
	for i := range a.Templates {
		m := &a.Templates[i]
		byText[string(m.Text)] = append(byText[string(m.Text)], uint32(i))
		for k, c := range slotContexts(nil, m.Text) {
			if _, ok := byContext[c]; !ok {
				byContext[c] = m.Columns[k]
			}
		}
	}
	const none = ^uint32(0)
	columns = slices.Repeat([]uint32{none}, len(b.Columns))
	taken := make([]bool, len(a.Columns))
	give := func(from, to uint32) {
		if columns[from] == none && !taken[to] && a.Columns[to] == b.Columns[from] {
			columns[from], taken[to] = to, true
		}
	}
	// First the columns of templates that both have, then those of like contexts.
	for i := range b.Templates {
		m := &b.Templates[i]
		if same := byText[string(m.Text)]; len(same) > 0 {
			for k, c := range m.Columns {
				give(c, a.Templates[same[0]].Columns[k])
			}
		}
	}
	for i := range b.Templates {
		m := &b.Templates[i]
		for k, c := range slotContexts(nil, m.Text) {
			if to, ok := byContext[c]; ok {
				give(m.Columns[k], to)
			}
		}
	}
	for c, to := range columns {
		if to == none {
			columns[c] = uint32(len(u.Columns))
			u.Columns = append(u.Columns, b.Columns[c])
		}
	}
	templates = make([]uint32, len(b.Templates))
	for i := range b.Templates {
		m := Template{Text: b.Templates[i].Text, Columns: make([]uint32, len(b.Templates[i].Columns))}
		for k, c := range b.Templates[i].Columns {
			m.Columns[k] = columns[c]
		}
		templates[i] = none
		for _, k := range byText[string(m.Text)] {
			if slices.Equal(u.Templates[k].Columns, m.Columns) {
				templates[i] = k
				break
			}
		}
		if templates[i] == none {
			templates[i] = uint32(len(u.Templates))
			u.Templates = append(u.Templates, m)
		}
	}
	return u, templates, columns
}

// Pattern returns the template as text that can be printed, with <_> in place of each
// slot, and of slots that follow each other.
func (t *Template) Pattern() string {
	var b []byte
	for _, p := range t.Pieces() {
		if b = append(b, p.Literal...); p.Slot && !(len(p.Literal) == 0 && bytes.HasSuffix(b, []byte(slotPattern))) {
			b = append(b, slotPattern...)
		}
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

const slotPattern = "<_>"
