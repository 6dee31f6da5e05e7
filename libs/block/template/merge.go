package template

import (
	"bytes"
	"hash/maphash"
	"slices"
)

const (
	wordLimit  = 24 // distinct tokens in one context before the token becomes a value
	quoteLimit = 64 // distinct shapes of a quoted string before all of it becomes one
)

// finalTemplate is a merged template of the section.
type finalTemplate struct {
	text []byte // never changed
	hash uint64
	rows int      // in this block
	cols []uint32 // column of each slot; nil: not yet assigned
}

// A merger turns raw templates into merged ones: words that differ from line to
// line become values. It remembers what it learnt from block to block; templates
// once made keep their numbers.
type merger struct {
	tokens [][]token // per raw template
	quotes [][]quote
	words  contexts
	quoted contexts
	active bool // of some kind there are enough templates to be worth it
	kinds  map[uint64]*kind
	recent *kind    // looked up last
	kinded int      // raw templates counted by kind
	done   int      // raw templates rewritten
	stale  []bool   // of those, whose tokens are others by now
	shaped int      // raw templates whose quoted strings are noted
	uncut  bool     // there may be raw templates of active kinds without tokens
	index  []uint32 // of out: open addressing, number+1
	out    []finalTemplate
	text   int // bytes of all final texts
	buf    []byte

	// Memory of the slices above, and scratch for them.
	tokenSlab slab[token]
	quoteSlab slab[quote]
	spanSlab  slab[span]
	oneTokens []token
	oneQuotes []quote
	oneSpans  []span
}

// kind is what is known of the lines of one kind.
type kind struct {
	id         uint64
	raws, rows int
	active     bool // there are enough templates
}

func newMerger() *merger {
	return &merger{kinds: map[uint64]*kind{}, words: newContexts(wordLimit), quoted: newContexts(quoteLimit)}
}

// merge gives every raw template its final one and counts the rows of this block.
// rows is how many the section has so far.
func (m *merger) merge(raws []rawTemplate, rows int) {
	limit := 64 + rows/256
	m.count(raws)
	if m.active {
		m.cut(raws)
		if m.scanWords(raws, m.done) { // new variable contexts change the contexts behind them
			for range 2 {
				if !m.scanWords(raws, 0) {
					break
				}
			}
		}
	}
	m.rewrite(raws)
	if m.active && m.live(raws) > limit && m.scanQuotes(raws) {
		m.done = 0
		m.rewrite(raws)
	}
	for i := range m.out {
		m.out[i].rows = 0
	}
	for i := range raws {
		m.out[raws[i].final].rows += raws[i].rows
	}
}

// cut cuts raw templates of kinds with enough of them into tokens.
func (m *merger) cut(raws []rawTemplate) {
	from := len(m.tokens)
	if m.uncut {
		from, m.uncut = 0, false
	}
	for i := from; i < len(raws); i++ {
		if i == len(m.tokens) {
			m.tokens, m.quotes, m.stale = append(m.tokens, nil), append(m.quotes, nil), append(m.stale, true)
		}
		if m.tokens[i] == nil && m.kind(raws[i].kind).active {
			m.oneTokens, m.oneQuotes = cut(raws[i].text, m.oneTokens[:0], m.oneQuotes[:0])
			m.tokens[i], m.quotes[i] = m.tokenSlab.keep(m.oneTokens), m.quoteSlab.keep(m.oneQuotes)
		}
	}
}

// count counts raw templates and rows by kind, and finds kinds with enough templates.
func (m *merger) count(raws []rawTemplate) {
	for ; m.kinded < len(raws); m.kinded++ {
		m.kind(raws[m.kinded].kind).raws++
	}
	for i := range raws {
		if n := raws[i].rows; n > 0 {
			m.kind(raws[i].kind).rows += n
		}
	}
	for _, k := range m.kinds {
		if !k.active && k.raws > 64+k.rows/256 {
			k.active, m.active, m.uncut = true, true, true
			m.done, m.shaped = 0, 0
			for i := range m.stale {
				m.stale[i] = true
			}
		}
	}
}

// kind returns what is known of a kind. Raw templates of one mostly follow each other.
func (m *merger) kind(id uint64) *kind {
	if k := m.recent; k != nil && k.id == id {
		return k
	}
	k := m.kinds[id]
	if k == nil {
		k = &kind{id: id}
		m.kinds[id] = k
	}
	m.recent = k
	return k
}

// live counts the merged templates that the block uses.
func (m *merger) live(raws []rawTemplate) int {
	seen := make([]bool, len(m.out))
	n := 0
	for i := range raws {
		if f := raws[i].final; raws[i].rows > 0 && !seen[f] {
			seen[f] = true
			n++
		}
	}
	return n
}

// scanWords notes the tokens of raw templates, from number from on, in their
// contexts: the token before, and the delimiters between. It reports whether a
// context became variable.
func (m *merger) scanWords(raws []rawTemplate, from int) bool {
	changed := false
	for i := max(from, 1); i < len(raws); i++ {
		if !m.kind(raws[i].kind).active {
			continue
		}
		prev := uint64(1)
		tokens := m.tokens[i]
		for k := range tokens {
			t := &tokens[k]
			ctx := mix(prev, t.lead) ^ raws[i].kind
			if ctx != t.ctx {
				t.ctx, t.number, t.noted = ctx, 0, false
				m.stale[i] = true
				m.shaped = min(m.shaped, i)
			}
			// A text noted in its context once need not be noted again.
			variable := false
			switch {
			case t.time:
			case t.number > 0:
				variable = m.words.all[t.number-1].variable
			default:
				t.number, variable = m.words.variable(ctx)
			}
			if variable != t.variable {
				t.variable = variable
				m.stale[i] = true
				m.shaped = min(m.shaped, i)
			}
			switch {
			case variable || t.slot && t.b-t.a == 1:
				prev = mix(ctx, 7)
				continue
			case t.slot:
				prev = mix(ctx, 9)
			default:
				prev = t.word
			}
			if !t.time && !t.noted {
				news := false
				t.number, news = m.words.see(t.number, ctx, t.word)
				t.noted = t.number > 0
				changed = changed || news
			}
		}
		for k := range m.quotes[i] {
			q := &m.quotes[i][k]
			q.ctx = mix(tokens[q.t0].ctx, 77)
		}
	}
	return changed
}

// scanQuotes makes quoted strings of too many shapes values as a whole, and reports
// whether it found new ones.
func (m *merger) scanQuotes(raws []rawTemplate) bool {
	changed := false
	for i := max(m.shaped, 1); i < len(raws); i++ {
		if !m.kind(raws[i].kind).active {
			continue
		}
		text := raws[i].text
		for k := range m.quotes[i] {
			q := &m.quotes[i][k]
			if q.fixed {
				continue
			}
			shape, end := uint64(3), q.a
			for _, t := range m.tokens[i][q.t0:q.t1] {
				if end == q.a {
					shape = mix(shape, hashText(text[end:t.a]))
				} else {
					shape = mix(shape, t.lead)
				}
				if t.variable {
					shape = mix(shape, 5)
				} else {
					shape = mix(shape, t.word)
				}
				end = t.b
			}
			n, variable := m.quoted.variable(q.ctx)
			if variable {
				continue
			}
			if _, news := m.quoted.see(n, q.ctx, shape); news {
				changed = true
			}
		}
	}
	m.shaped = len(raws)
	return changed
}

// rewrite makes the merged templates of raw ones not yet done.
func (m *merger) rewrite(raws []rawTemplate) {
	for i := range raws {
		if i < m.done && (!m.active || !m.stale[i]) {
			continue
		}
		if m.active {
			m.stale[i] = false
		}
		r := &raws[i]
		if !m.active || i == 0 || !m.kind(r.kind).active {
			m.asIs(r)
			continue
		}
		w := writer{text: r.text, out: m.buf[:0], spans: m.oneSpans[:0], slot: -1, same: true}
		m.write(&w, m.tokens[i], m.quotes[i])
		m.buf, m.oneSpans = w.out, w.spans
		if w.same {
			m.asIs(r)
			continue
		}
		hash := maphash.Bytes(seed, w.out)
		f := m.find(w.out, hash)
		if f < 0 && m.full() { // if need be beyond the limit: there are fewer than maxRaws of those
			m.asIs(r)
			continue
		}
		if f < 0 {
			f = m.add(slices.Clone(w.out), hash)
		}
		if r.same, r.final = false, f; cap(r.spans) >= len(w.spans) {
			r.spans = append(r.spans[:0], w.spans...)
		} else {
			r.spans = m.spanSlab.keep(w.spans)
		}
	}
	m.done = len(raws)
}

// find returns the number of the merged template with a text, or -1.
func (m *merger) find(text []byte, hash uint64) int {
	if len(m.index) == 0 {
		return -1
	}
	mask := uint64(len(m.index) - 1)
	for i := hash & mask; m.index[i] != 0; i = (i + 1) & mask {
		if k := m.index[i] - 1; m.out[k].hash == hash && bytes.Equal(m.out[k].text, text) {
			return int(k)
		}
	}
	return -1
}

// full reports whether there is no room for further templates but raw ones.
func (m *merger) full() bool { return len(m.out) >= maxFinals || m.text >= maxFinalText }

// add makes a merged template known, whose text must never change, and returns its
// number.
func (m *merger) add(text []byte, hash uint64) int {
	m.out = append(m.out, finalTemplate{text: text, hash: hash})
	m.text += len(text)
	from := len(m.out) - 1
	if len(m.out)*2 > len(m.index) {
		m.index, from = make([]uint32, max(1024, 4*len(m.index))), 0
	}
	mask := uint64(len(m.index) - 1)
	for k := from; k < len(m.out); k++ {
		i := m.out[k].hash & mask
		for m.index[i] != 0 {
			i = (i + 1) & mask
		}
		m.index[i] = uint32(k + 1)
	}
	return len(m.out) - 1
}

// asIs makes the merged template of a raw one its own text.
func (m *merger) asIs(r *rawTemplate) {
	r.same, r.spans = true, nil
	if r.final = m.find(r.text, r.hash); r.final < 0 {
		r.final = m.add(r.text, r.hash)
	}
}

func (m *merger) write(w *writer, tokens []token, quotes []quote) {
	q := 0
	for k := 0; k < len(tokens); k++ {
		for q < len(quotes) && (int(quotes[q].t0) < k || quotes[q].fixed || !m.whole(quotes[q].ctx)) {
			q++
		}
		if q < len(quotes) && int(quotes[q].t0) == k {
			w.value(int(quotes[q].a), int(quotes[q].b))
			k = int(quotes[q].t1) - 1
			q++
		} else if tokens[k].variable {
			w.value(int(tokens[k].a), int(tokens[k].b))
		}
	}
	w.copyTo(len(w.text))
}

// whole tells that quoted strings in a context become values.
func (m *merger) whole(ctx uint64) bool {
	_, variable := m.quoted.variable(ctx)
	return variable
}

// A writer writes a merged template and notes where its values are.
type writer struct {
	text  []byte // raw template
	at    int    // read so far
	slot  int    // last slot read
	off   int    // literal bytes read since
	out   []byte
	spans []span
	same  bool // all values are the raw template's slots
}

// copyTo copies up to a place in the raw template.
func (w *writer) copyTo(end int) { w.read(end, true) }

func (w *writer) read(end int, write bool) {
	for w.at < end {
		n := 1
		switch w.text[w.at] {
		case markTime:
			n = 2
			fallthrough
		case markSlot, markRaw:
			w.slot++
			w.off = 0
			if write {
				w.spans = append(w.spans, span{start: int32(w.slot)})
			}
		default:
			for w.at+n < end && w.text[w.at+n] > markRaw {
				n++
			}
			w.off += n
		}
		if write {
			w.out = append(w.out, w.text[w.at:w.at+n]...)
		}
		w.at += n
	}
}

// value makes [a, b) of the raw template one value.
func (w *writer) value(a, b int) {
	w.copyTo(a)
	s := span{whole: true, start: int32(w.slot), startOff: uint32(w.off)}
	w.read(b, false)
	s.end, s.endOff = int32(w.slot), uint32(w.off)
	w.spans = append(w.spans, s)
	w.out = append(w.out, markSlot)
	w.same = false
}
