package match

import (
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxNeedles is how many needles are looked for instead of one regular expression.
const maxNeedles = 64

// maxOthers is how many sets of needles besides the best one rule templates out.
const maxOthers = 4

// analyze finds needles of which a line that a regular expression matches holds one.
func analyze(s string) term {
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return term{unknown: true}
	}
	tree = tree.Simplify()
	t := term{safe: safe(tree)}
	l, exact := required(tree)
	t.also = others(tree, l)
	if l == nil || len(l) > maxNeedles {
		t.unknown = true
		return t
	}
	for _, x := range l {
		t.needles = append(t.needles, x.needles(!exact)...)
	}
	for i := range t.needles {
		if len(t.needles[i].text) == 0 {
			t.needles, t.unknown = nil, true
			break
		}
	}
	return t
}

// literal is text of a regular expression.
type literal struct {
	runes []rune
	fold  bool
}

// needles returns what to look for instead of the literal: text that a line must hold,
// and, as k and s are also the same letter as U+212A and U+017F, these.
func (l literal) needles(ask bool) []needle {
	best, from := []rune{}, 0
	cut := func(to int) {
		if to-from > len(best) {
			best = l.runes[from:to]
		}
		from = to + 1
	}
	for i, r := range l.runes {
		// Letters beyond ASCII have forms of other lengths. U+FFFD stands for bytes
		// that are no text, too.
		if r == utf8.RuneError || l.fold && r >= utf8.RuneSelf && unicode.SimpleFold(r) != r {
			cut(i)
		}
	}
	cut(len(l.runes))
	ask = ask || len(best) < len(l.runes)
	n := needle{fold: l.fold, ask: ask}
	hasK, hasS := false, false
	for _, r := range best {
		if l.fold && r < utf8.RuneSelf {
			r = unicode.ToLower(r)
			hasK, hasS = hasK || r == 'k', hasS || r == 's'
		}
		n.text = utf8.AppendRune(n.text, r)
	}
	out := []needle{n}
	if hasK {
		out = append(out, needle{text: []byte("\u212a"), ask: true})
	}
	if hasS {
		out = append(out, needle{text: []byte("\u017f"), ask: true})
	}
	return out
}

// required returns literals of which every match holds one: the best such set, nil if
// there is none. exact tells that a line matches if it holds one.
func required(re *syntax.Regexp) (l []literal, exact bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return []literal{{re.Rune, re.Flags&syntax.FoldCase != 0}}, true
	case syntax.OpCapture:
		return required(re.Sub[0])
	case syntax.OpPlus:
		l, _ = required(re.Sub[0])
		return l, false
	case syntax.OpRepeat:
		if re.Min > 0 {
			l, _ = required(re.Sub[0])
		}
		return l, false
	case syntax.OpConcat:
		for _, sub := range join(re.Sub) {
			if s, _ := required(sub); s != nil && (l == nil || worth(s) > worth(l)) {
				l = s
			}
		}
		return l, false
	case syntax.OpAlternate:
		exact = true
		for _, sub := range re.Sub {
			s, e := required(sub)
			if s == nil {
				return nil, false
			}
			l, exact = append(l, s...), exact && e
			if len(l) > maxNeedles {
				return nil, false
			}
		}
		return l, exact
	}
	return nil, false
}

// others returns what else every match holds: of each set, one needle. best is the
// set that was chosen first.
func others(re *syntax.Regexp, best []literal) (out [][]needle) {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	if re.Op != syntax.OpConcat || best == nil {
		return nil
	}
next:
	for _, sub := range join(re.Sub) {
		l, _ := required(sub)
		if l == nil || len(out) == maxOthers || len(l) == len(best) && slices.Equal(l[0].runes, best[0].runes) {
			continue
		}
		var set []needle
		for _, x := range l {
			set = append(set, x.needles(true)...)
		}
		for i := range set {
			if len(set[i].text) == 0 {
				continue next
			}
		}
		if len(set) <= maxNeedles {
			out = append(out, set)
		}
	}
	return out
}

// join puts literals that follow each other together where one of them folds case:
// the parser leaves [Ee]rror in two.
func join(subs []*syntax.Regexp) []*syntax.Regexp {
	var out []*syntax.Regexp
	for _, s := range subs {
		if n := len(out); n > 0 && s.Op == syntax.OpLiteral && out[n-1].Op == syntax.OpLiteral {
			prev := out[n-1]
			out[n-1] = &syntax.Regexp{Op: syntax.OpLiteral, Flags: prev.Flags | s.Flags,
				Rune: append(append([]rune(nil), prev.Rune...), s.Rune...)}
			continue
		}
		out = append(out, s)
	}
	return out
}

func worth(l []literal) int {
	least := 1 << 20
	for _, x := range l {
		n := len(x.runes) * 2
		if x.fold {
			n--
		}
		least = min(least, n)
	}
	return least*maxNeedles - len(l)
}

// safe reports whether a match in a template's text, with a mark for every slot, is a
// match in all its lines: whatever takes a mark takes any text without line feeds
// instead of it.
func safe(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpNoMatch:
		return true
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if mayBeMark(r) {
				return false
			}
		}
		return true
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= lastMark || re.Rune[i] <= utf8.RuneError && re.Rune[i+1] >= utf8.RuneError {
				return false
			}
		}
		return true
	case syntax.OpStar, syntax.OpPlus:
		if op := re.Sub[0].Op; op == syntax.OpAnyChar || op == syntax.OpAnyCharNotNL {
			return true
		}
		return safe(re.Sub[0])
	case syntax.OpCapture, syntax.OpConcat, syntax.OpAlternate, syntax.OpQuest, syntax.OpRepeat:
		for _, sub := range re.Sub {
			if !safe(sub) {
				return false
			}
		}
		return true
	}
	return false
}

// Marks are bytes up to this one, and one that is no text behind it.
const lastMark = 2

func mayBeMark(r rune) bool { return r <= lastMark || r == utf8.RuneError }
