package syntax

import (
	"errors"
	"regexp/syntax"
)

// maxRegexSize bounds the regexes of a query together, in instructions. Without
// it repetitions (`x{1000}x{1000}…`) would make a query of 128 KiB compile to
// most of a gigabyte. Plain text is an instruction a character, so that any list
// of words fits.
const maxRegexSize = 256 << 10

var errRegexSize = errors.New("regular expressions of the query are too large")

// regexSize estimates how many instructions a regex compiles to. The error is
// the one that compiling it gives.
func regexSize(text string) (int, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return nodeSize(re), nil
}

func nodeSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		size = 1 + len(re.Rune)/8
	}
	for _, sub := range re.Sub {
		size += nodeSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 1<<30) // below overflow: repetitions are at most 1000
}

// chargeRegex counts a regex against the query's budget. Invalid ones are left
// to whoever compiles them.
func (p *parser) chargeRegex(text string) {
	size, err := regexSize(text)
	if err != nil {
		return
	}
	if p.regexSize += size; p.regexSize > maxRegexSize {
		p.fail("%s", errRegexSize)
	}
}
