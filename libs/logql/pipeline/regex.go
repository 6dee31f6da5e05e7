package pipeline

import (
	"bytes"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// maxLiterals bounds into how many literals a regex is expanded.
const maxLiterals = 32

// simplified is a regex as a test of lines: exactly what regexp.Match says.
type simplified struct {
	test    lineTest
	needles [][]string
	cost    int
}

// simplify replaces a regex by tests for literals where that is exact, else puts
// a test for literals that a match needs in front of it.
func simplify(re *regexp.Regexp) simplified {
	slow := simplified{test: re.Match, cost: 4}
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return slow
	}
	tree = trimAny(tree.Simplify())
	if l, ok := expand(tree); ok {
		if !l.fold {
			return simplified{test: containsAny(l.strings), needles: [][]string{l.strings}}
		}
		f := newFoldSet(l.strings)
		if !f.wide {
			return simplified{test: f.match, cost: 1}
		}
		// Letters outside ASCII fold into these literals: only the regex knows.
		return simplified{test: func(line []byte) bool {
			return f.match(line) || (!ascii(line) && re.Match(line))
		}, cost: 1}
	}
	need, ok := required(tree)
	if q := newSequence(tree, re.Match); q != nil {
		out := simplified{test: q.match, cost: 2}
		if ok && !need.fold {
			out.needles = [][]string{need.strings}
		}
		return out
	}
	if !ok {
		return slow
	}
	if need.fold {
		f := newFoldSet(need.strings)
		if f.wide {
			return simplified{test: func(line []byte) bool {
				return (f.match(line) || !ascii(line)) && re.Match(line)
			}, cost: 3}
		}
		return simplified{test: func(line []byte) bool { return f.match(line) && re.Match(line) }, cost: 3}
	}
	contains := containsAny(need.strings)
	return simplified{
		test:    func(line []byte) bool { return contains(line) && re.Match(line) },
		needles: [][]string{need.strings}, cost: 3,
	}
}

// trimAny drops .* at either end, which changes nothing for an unanchored regex:
// it matches the empty string.
func trimAny(re *syntax.Regexp) *syntax.Regexp {
	any := func(r *syntax.Regexp) bool {
		return r.Op == syntax.OpStar && (r.Sub[0].Op == syntax.OpAnyChar || r.Sub[0].Op == syntax.OpAnyCharNotNL)
	}
	if any(re) {
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	}
	if re.Op == syntax.OpConcat {
		sub := re.Sub
		for len(sub) > 0 && any(sub[0]) {
			sub = sub[1:]
		}
		for len(sub) > 0 && any(sub[len(sub)-1]) {
			sub = sub[:len(sub)-1]
		}
		return &syntax.Regexp{Op: syntax.OpConcat, Flags: re.Flags, Sub: sub}
	}
	return re
}

// literals is a set of strings; fold: in any case, and then in lower-case ASCII.
type literals struct {
	strings []string
	fold    bool
}

// expand returns all strings that re matches, if these are few and letter case
// counts for all of them or for none.
func expand(re *syntax.Regexp) (literals, bool) {
	var none literals
	switch re.Op {
	case syntax.OpEmptyMatch:
		return literals{strings: []string{""}}, true
	case syntax.OpLiteral:
		return literal(re)
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpQuest:
		l, ok := expand(re.Sub[0])
		l.strings = append(l.strings, "")
		return l, ok && len(l.strings) <= maxLiterals
	case syntax.OpCharClass:
		var out literals
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if r == utf8.RuneError || len(out.strings) == maxLiterals || utf16Surrogate(r) {
					return none, false
				}
				out.strings = append(out.strings, string(r))
			}
		}
		return out, len(out.strings) > 0
	case syntax.OpAlternate:
		var out literals
		for i, s := range re.Sub {
			l, ok := expand(s)
			if !ok || (i > 0 && !agree(&out, &l)) || len(out.strings)+len(l.strings) > maxLiterals {
				return none, false
			}
			out.strings, out.fold = append(out.strings, l.strings...), out.fold || l.fold
		}
		return out, true
	case syntax.OpConcat:
		out := literals{strings: []string{""}}
		for _, s := range re.Sub {
			l, ok := expand(s)
			if ok {
				out, ok = product(out, l)
			}
			if !ok {
				return none, false
			}
		}
		return out, true
	}
	return none, false
}

// product returns all strings of a followed by one of b.
func product(a, b literals) (literals, bool) {
	if !agree(&a, &b) || len(a.strings)*len(b.strings) > maxLiterals {
		return literals{}, false
	}
	out := literals{fold: a.fold || b.fold}
	for _, s := range a.strings {
		for _, t := range b.strings {
			out.strings = append(out.strings, s+t)
		}
	}
	return out, true
}

func utf16Surrogate(r rune) bool { return r >= 0xd800 && r < 0xe000 }

// agree reports whether the sets treat case alike. Strings without letters fit both.
func agree(a, b *literals) bool {
	if a.fold == b.fold {
		return true
	}
	plain := a
	if a.fold {
		plain = b
	}
	for _, s := range plain.strings {
		for i := range len(s) {
			if c := s[i] | 0x20; s[i] >= utf8.RuneSelf || c >= 'a' && c <= 'z' {
				return false
			}
		}
	}
	return true
}

func literal(re *syntax.Regexp) (literals, bool) {
	s := string(re.Rune)
	if strings.ContainsRune(s, utf8.RuneError) {
		return literals{}, false // which matches every byte that is not UTF-8, too
	}
	if re.Flags&syntax.FoldCase == 0 {
		return literals{strings: []string{s}}, true
	}
	if !ascii([]byte(s)) {
		return literals{}, false
	}
	return literals{strings: []string{strings.ToLower(s)}, fold: true}, true
}

// required returns strings of which every match contains one at least.
func required(re *syntax.Regexp) (literals, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return literal(re)
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		// Neighbours that can be expanded are taken together.
		var out literals
		run := literals{strings: []string{""}}
		consider := func(l literals) {
			if shortest(l.strings) > max(shortest(out.strings), 0) {
				out = l
			}
		}
		for _, s := range re.Sub {
			l, ok := expand(s)
			if !ok {
				consider(run)
				run = literals{strings: []string{""}}
				if l, ok = required(s); ok {
					consider(l)
				}
				continue
			}
			if next, ok := product(run, l); ok {
				run = next
				continue
			}
			consider(run)
			run = l
		}
		consider(run)
		return out, len(out.strings) > 0
	case syntax.OpAlternate:
		var out literals
		for i, s := range re.Sub {
			l, ok := expand(s)
			if !ok || shortest(l.strings) == 0 {
				l, ok = required(s)
			}
			if !ok || shortest(l.strings) == 0 || (i > 0 && l.fold != out.fold) || len(out.strings)+len(l.strings) > maxLiterals {
				return literals{}, false
			}
			out.strings, out.fold = append(out.strings, l.strings...), l.fold
		}
		return out, true
	}
	return literals{}, false
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// foldSet looks for lower-case ASCII literals in any case, all in one pass.
type foldSet struct {
	literals      [][]byte
	all           bool // one of them is ""
	wide          bool // letters outside ASCII fold to one of k and s
	first, second [256]uint32
}

func newFoldSet(literals []string) *foldSet {
	f := &foldSet{}
	for i, l := range literals {
		f.literals = append(f.literals, []byte(l))
		f.wide = f.wide || strings.ContainsAny(l, "ks") // K (Kelvin), ſ
		if l == "" {
			f.all = true
			continue
		}
		bit := uint32(1) << i
		for _, c := range bothCases(l[0]) {
			f.first[c] |= bit
		}
		if len(l) == 1 {
			for c := range f.second {
				f.second[c] |= bit
			}
			continue
		}
		for _, c := range bothCases(l[1]) {
			f.second[c] |= bit
		}
	}
	return f
}

func bothCases(c byte) []byte {
	if c >= 'a' && c <= 'z' {
		return []byte{c, c - 0x20}
	}
	return []byte{c}
}

func (f *foldSet) match(line []byte) bool {
	if f.all {
		return true
	}
	for i := 0; i < len(line); i++ {
		hits := f.first[line[i]]
		if hits == 0 {
			continue
		}
		if i+1 < len(line) {
			hits &= f.second[line[i+1]]
		}
		for n := 0; hits != 0; n, hits = n+1, hits>>1 {
			if hits&1 != 0 && hasFoldPrefix(line[i:], f.literals[n]) {
				return true
			}
		}
	}
	return false
}

func hasFoldPrefix(b, lower []byte) bool {
	return len(b) >= len(lower) && bytes.EqualFold(b[:len(lower)], lower)
}
