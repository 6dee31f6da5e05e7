package blockstore

import (
	"bytes"
	"strings"

	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// What a parser makes of the fields that matter depends, for the lines of a template,
// on the values of some slots only, if no value of the other slots can change where
// fields begin and end. Which slots these are is worked out from the template's text.

// hole stands for a slot in a template's text. No text with it is analyzed.
const hole = 0x01

// slotUse is what a slot's values may not hold.
type slotUse uint8

const (
	inString slotUse = 1 << iota // of JSON, or in quotes: no quote, no backslash
	inWord                       // of logfmt: neither blanks, quotes nor =
	inNumber                     // digits only, one at least
)

// fieldSlots is what is known of a template: of each slot how it is used, and whether
// it matters. ok: there is nothing else that may matter.
type fieldSlots struct {
	use     []slotUse
	matters []bool
	ok      bool
	notedFields
}

// notedFields is the fields of a template that matter.
type notedFields struct {
	noted   []notedField
	nested  bool // some of noted are not at the top
	text    []byte
	columns []uint32 // of the slots; shared with the template
}

// notedField is a field that matters. Its value is text[from:to] of the template, with
// holes in the slots' place, of which slot is the first.
type notedField struct {
	name     string
	from, to int
	slot     int
}

// analyzeFields works out which slots of a template matter to fields. known keeps which
// names do: it is of these fields.
func analyzeFields(t *template.Template, f *engine.Fields, known map[string]bool) fieldSlots {
	if t.IsRaw() {
		return fieldSlots{}
	}
	text, literal := make([]byte, 0, len(t.Text)), 0
	for from, to := template.NextSlot(t.Text, 0); ; from, to = template.NextSlot(t.Text, to) {
		if bytes.IndexByte(t.Text[literal:from], hole) >= 0 {
			return fieldSlots{}
		}
		if text = append(text, t.Text[literal:from]...); from == len(t.Text) {
			break
		}
		text, literal = append(text, hole), to
	}
	n := len(t.Columns)
	w := fieldWalker{line: text, fields: f, known: known, fieldSlots: fieldSlots{notedFields: notedFields{text: text, columns: t.Columns}, use: make([]slotUse, n), matters: make([]bool, n)}}
	if f.JSON {
		w.ok = w.object(nil, false, 0) && w.blanks() == len(text)
	} else {
		w.ok = w.pairs()
	}
	return w.fieldSlots
}

// fieldWalker walks over the text of a template.
type fieldWalker struct {
	fieldSlots
	line   []byte
	at     int
	slot   int // the next
	fields *engine.Fields
	known  map[string]bool // names that may matter, or not
}

// mayMatter reports whether a field may matter.
func (w *fieldWalker) mayMatter(name []byte) bool {
	is, known := w.known[string(name)]
	if !known {
		if is = w.fields.Matters(string(name)); len(w.known) < maxAnalyzed {
			w.known[string(name)] = is
		}
	}
	return is
}

func (w *fieldWalker) peek() byte {
	if w.at < len(w.line) {
		return w.line[w.at]
	}
	return 0
}

func (w *fieldWalker) blanks() int {
	for w.at < len(w.line) && (w.line[w.at] == ' ' || w.line[w.at] == '\t' || w.line[w.at] == '\n' || w.line[w.at] == '\r') {
		w.at++
	}
	return w.at
}

func (w *fieldWalker) take(c byte) bool {
	w.blanks()
	if w.peek() != c {
		return false
	}
	w.at++
	return true
}

// pass goes over a slot.
func (w *fieldWalker) pass(use slotUse, matters bool) {
	w.use[w.slot] |= use
	w.matters[w.slot] = w.matters[w.slot] || matters
	w.slot++
	w.at++
}

// note adds a field that matters, whose value begins there and ends here.
func (w *fieldWalker) note(name []byte, from int, nested bool) {
	slots := bytes.Count(w.line[from:w.at], []byte{hole})
	w.noted = append(w.noted, notedField{string(name), from, w.at, w.slot - slots})
	w.nested = w.nested || nested
}

const maxFieldDepth = 32

// object goes over a JSON object. path is its fields' path, with _ behind each name.
func (w *fieldWalker) object(path []byte, matters bool, depth int) bool {
	if depth > maxFieldDepth || !w.take('{') {
		return false
	}
	if w.take('}') {
		return true
	}
	for {
		w.blanks()
		if w.peek() != '"' {
			return false
		}
		n := bytes.IndexByte(w.line[w.at+1:], '"')
		if n < 0 {
			return false
		}
		key := w.line[w.at+1 : w.at+1+n]
		if bytes.IndexByte(key, '\\') >= 0 || bytes.IndexByte(key, hole) >= 0 || len(bytes.TrimSpace(key)) != len(key) {
			return false // blanks are no part of the label that it makes
		}
		w.at += n + 2
		name := append(path[:len(path):len(path)], key...)
		if len(path) == 0 {
			name = key
		}
		if !w.take(':') {
			return false
		}
		from := w.blanks()
		first := !matters && w.mayMatter(name)
		if !w.value(name, matters || first, depth) {
			return false
		}
		if first {
			w.note(name, from, depth > 0)
		}
		if w.take('}') {
			return true
		}
		if !w.take(',') {
			return false
		}
	}
}

func (w *fieldWalker) value(path []byte, matters bool, depth int) bool {
	w.blanks()
	switch c := w.peek(); {
	case c == '"':
		return w.quoted(matters)
	case c == '{':
		return w.object(append(path[:len(path):len(path)], '_'), matters, depth+1)
	case c == '[':
		return w.array(path, matters, depth+1)
	case c == '-' || c >= '0' && c <= '9' || c == hole:
		return w.number(matters)
	}
	for _, s := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(w.line[w.at:], []byte(s)) {
			w.at += len(s)
			c := w.peek()
			return c == ',' || c == '}' || c == ']' || c == ' '
		}
	}
	return false
}

func (w *fieldWalker) array(path []byte, matters bool, depth int) bool {
	if depth > maxFieldDepth || !w.take('[') {
		return false
	}
	if w.take(']') {
		return true
	}
	for {
		if !w.value(path, matters, depth) {
			return false
		}
		if w.take(']') {
			return true
		}
		if !w.take(',') {
			return false
		}
	}
}

// quoted goes over text in quotes.
func (w *fieldWalker) quoted(matters bool) bool {
	for w.at++; w.at < len(w.line); {
		switch c := w.line[w.at]; {
		case c == '"':
			w.at++
			return true
		case c == '\\':
			// What belongs to it is within six bytes.
			if bytes.IndexByte(w.line[w.at:min(w.at+6, len(w.line))], hole) >= 0 {
				return false
			}
			w.at += 2
		case c == hole:
			w.pass(inString, matters)
		case c < ' ' || c >= 0x80:
			return false
		default:
			w.at++
		}
	}
	return false
}

func (w *fieldWalker) number(matters bool) bool {
	for w.at < len(w.line) {
		switch c := w.line[w.at]; {
		case c == hole:
			w.pass(inNumber, matters)
		case c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E' || c >= '0' && c <= '9':
			w.at++
		default:
			return c == ',' || c == '}' || c == ']' || c == ' '
		}
	}
	return false
}

// pairs goes over a line of logfmt.
func (w *fieldWalker) pairs() bool {
	for {
		for w.at < len(w.line) && w.line[w.at] == ' ' {
			w.at++
		}
		if w.at == len(w.line) {
			return true
		}
		from := w.at
		for w.at < len(w.line) && w.line[w.at] > ' ' && w.line[w.at] < 0x80 && w.line[w.at] != '=' && w.line[w.at] != '"' {
			w.at++
		}
		key := w.line[from:w.at]
		if len(key) == 0 || w.peek() != '=' {
			return false
		}
		matters := w.mayMatter(key)
		w.at++
		value := w.at
		if w.peek() == '"' {
			if !w.quoted(matters) {
				return false
			}
			if w.at < len(w.line) && w.peek() != ' ' {
				return false
			}
			if matters {
				w.note(key, value, false)
			}
			continue
		}
		for w.at < len(w.line) && w.line[w.at] != ' ' {
			switch c := w.line[w.at]; {
			case c == hole:
				w.pass(inWord, matters)
			case c < ' ' || c >= 0x80 || c == '=' || c == '"':
				return false
			default:
				w.at++
			}
		}
		if matters {
			w.note(key, value, false)
		}
	}
}

// hasNamed reports whether a name of metadata is one that matters, or what such a name
// may be made of where labels collide.
func hasNamed(names []string, f *engine.Fields) bool {
	for _, m := range names {
		for _, n := range f.Names {
			if strings.HasPrefix(n, m) {
				return true
			}
		}
	}
	return false
}
