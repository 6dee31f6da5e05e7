package syntax

import "regexp/syntax"

// simplifies reports whether Loki replaces the regex of a label filter by text
// comparisons. It decides nothing but the quotes that Pretty uses.
func simplifies(text string) bool {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return false
	}
	return simple(re.Simplify())
}

// simple: literals, alternations of them, and those with .* around them.
func simple(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpLiteral:
		return true
	case syntax.OpCharClass: // from alternatives that differ in one character
		n := rune(0)
		for i := 0; i < len(re.Rune); i += 2 {
			n += re.Rune[i+1] - re.Rune[i] + 1
		}
		return n <= 10
	case syntax.OpCapture:
		return simple(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		return anyChar(re.Sub[0])
	case syntax.OpAlternate:
		return all(re.Sub)
	case syntax.OpConcat:
		subs := re.Sub
		if star(subs[0]) {
			subs = subs[1:]
		}
		if len(subs) > 0 && star(subs[len(subs)-1]) {
			subs = subs[:len(subs)-1]
		}
		for _, s := range subs {
			if s.Op == syntax.OpStar || s.Op == syntax.OpPlus {
				return false
			}
		}
		return len(subs) <= 2 && all(subs)
	}
	return false
}

func all(subs []*syntax.Regexp) bool {
	for _, s := range subs {
		if !simple(s) {
			return false
		}
	}
	return true
}

func star(re *syntax.Regexp) bool { return re.Op == syntax.OpStar && anyChar(re.Sub[0]) }

func anyChar(re *syntax.Regexp) bool {
	return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL
}
