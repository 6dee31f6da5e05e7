package template

// Place returns the number of the template with a text, which may be another section's,
// and the column of each of its slots, and makes both known if they are not; not ok if
// there is no room. The columns are shared.
func (a *Analyzer) Place(text []byte) (number uint32, columns []uint32, ok bool) {
	m := a.merger
	i, known := m.index[string(text)]
	if !known {
		if len(m.out) >= maxFinals || m.text >= maxFinalText {
			return 0, nil, false
		}
		i = len(m.out)
		s := string(text)
		m.out = append(m.out, finalTemplate{text: []byte(s)})
		m.index[s] = i
		m.text += len(s)
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
