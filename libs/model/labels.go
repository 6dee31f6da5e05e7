// Package model is the data model: label sets, rows in columns, and the identity
// of entries. It is pure.
//
// Storage is a growing set of entries. An entry is (tenant, stream, timestamp,
// line, structured metadata as sent, copy number); storing it again changes
// nothing, so merging two sources is set union. What the server derives, such as
// detected_level, takes no part in an entry's identity.
package model

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Label is a name and its value.
type Label struct {
	Name, Value string
}

// Labels is a set of labels: ascending by name, each name once. The zero value
// is the empty set. Label sets are shared; nobody changes one in place.
type Labels []Label

// NewLabels sorts pairs in place and returns them as a set. Pairs without a
// value are left out. Of pairs of one name the last in the slice counts.
func NewLabels(pairs []Label) Labels {
	slices.SortStableFunc(pairs, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	out := pairs[:0]
	for i, p := range pairs {
		if i+1 < len(pairs) && pairs[i+1].Name == p.Name {
			continue
		}
		if p.Value != "" {
			out = append(out, p)
		}
	}
	return Labels(out)
}

// LabelsFromMap returns the set that m holds.
func LabelsFromMap(m map[string]string) Labels {
	pairs := make([]Label, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, Label{k, v})
	}
	return NewLabels(pairs)
}

// Get returns the value of name, or "".
func (ls Labels) Get(name string) string {
	v, _ := ls.Lookup(name)
	return v
}

// Lookup returns the value of name and whether it is there.
func (ls Labels) Lookup(name string) (string, bool) {
	// Label sets are small; a scan beats a binary search.
	for i := range ls {
		if ls[i].Name == name {
			return ls[i].Value, true
		}
	}
	return "", false
}

// Map returns the set as a map that the caller owns.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// Equal reports whether both sets hold the same labels.
func (ls Labels) Equal(o Labels) bool { return slices.Equal(ls, o) }

// Compare orders label sets by their names and values, pair by pair, a prefix
// first.
func (ls Labels) Compare(o Labels) int {
	for i := 0; i < len(ls) && i < len(o); i++ {
		if c := strings.Compare(ls[i].Name, o[i].Name); c != 0 {
			return c
		}
		if c := strings.Compare(ls[i].Value, o[i].Value); c != 0 {
			return c
		}
	}
	return len(ls) - len(o)
}

// String returns the canonical text, `{a="b", "c.d"="e"}`, values quoted as by
// strconv.Quote, and names that are not [A-Za-z_][A-Za-z0-9_]*, too. It is LogQL, and equal sets have equal text.
func (ls Labels) String() string {
	n := 2
	for _, l := range ls {
		n += len(l.Name) + len(l.Value) + 5
	}
	return string(ls.AppendText(make([]byte, 0, n)))
}

// AppendText appends the canonical text to b.
func (ls Labels) AppendText(b []byte) []byte {
	b = append(b, '{')
	for i, l := range ls {
		if i > 0 {
			b = append(b, ", "...)
		}
		if plainName(l.Name) {
			b = append(b, l.Name...)
		} else {
			b = strconv.AppendQuote(b, l.Name)
		}
		b = append(b, '=')
		if plainValue(l.Value) {
			b = append(append(append(b, '"'), l.Value...), '"')
		} else {
			b = strconv.AppendQuote(b, l.Value)
		}
	}
	return append(b, '}')
}

// PlainLabels returns the set whose canonical text is given, if that can be told without
// unquoting: names need no quotes, values are printable ASCII that is not escaped. Names
// and values share the text's memory. What it refuses is to be parsed.
func PlainLabels(text string) (Labels, bool) {
	n := strings.Count(text, `="`)
	if n == 0 || n > 64 || len(text) < 6 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	ls := make(Labels, 0, n)
	rest := text[1:]
	for {
		i := strings.IndexByte(rest, '=')
		if i < 0 || !plainName(rest[:i]) || len(ls) > 0 && ls[len(ls)-1].Name >= rest[:i] {
			return nil, false
		}
		name := rest[:i]
		if rest = rest[i+1:]; rest[0] != '"' { // there is the last '}' at least
			return nil, false
		}
		rest = rest[1:]
		end := 0
		for end < len(rest) && plainByte(rest[end]) {
			end++
		}
		if end == 0 || end == len(rest) || rest[end] != '"' {
			return nil, false
		}
		ls = append(ls, Label{name, rest[:end]})
		if rest = rest[end+1:]; rest == "}" {
			return ls, true
		}
		if !strings.HasPrefix(rest, ", ") {
			return nil, false
		}
		rest = rest[2:]
	}
}

// plainByte reports whether a byte stands for itself in quotes.
func plainByte(c byte) bool { return c >= ' ' && c <= '~' && c != '"' && c != '\\' }

func plainValue(s string) bool {
	for i := range len(s) {
		if !plainByte(s[i]) {
			return false
		}
	}
	return true
}

func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Fingerprint hashes the set. It is a hint: streams are equal by labels only.
func (ls Labels) Fingerprint() uint64 {
	h := uint64(len(ls))
	for _, l := range ls {
		h = mix(h^xxhash.Sum64String(l.Name), xxhash.Sum64String(l.Value)+uint64(len(l.Value)))
	}
	return h
}

// mix folds the 128-bit product of its two arguments, each made odd-looking by a
// constant so that small and zero inputs spread too.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}
