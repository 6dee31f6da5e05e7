package template

import (
	"hash/maphash"
	"slices"
)

// Place returns the number of the template with a text, which may be another section's,
// and the column of each of its slots, and makes both known if they are not; not ok if
// there is no room. The columns are shared.
func (a *Analyzer) Place(text []byte) (number uint32, columns []uint32, ok bool) {
	m := a.merger
	hash := maphash.Bytes(seed, text)
	i := m.find(text, hash)
	if i < 0 {
		if m.full() {
			return 0, nil, false
		}
		i = m.add(slices.Clone(text), hash)
	}
	f := &m.out[i]
	if f.cols == nil && !a.place(f) {
		return 0, nil, false
	}
	return uint32(i), f.cols, true
}

// Columns returns the column of each slot of a template of the block that was analyzed
// last. They are shared.
func (a *Analyzer) Columns(number uint32) []uint32 { return a.merger.out[number].cols }

// Column describes a column of the section.
func (a *Analyzer) Column(number uint32) Column { return a.cols[number] }

// Text returns the text of a template of the section. It is shared.
func (a *Analyzer) Text(number uint32) []byte { return a.merger.out[number].text }
