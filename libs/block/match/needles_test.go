package match_test

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/block/match"
)

// question is a filter of one class for the lines of one system.
type question struct {
	class  string
	filter match.Filter
}

// picker chooses needles among lines. Its draws are in a fixed order: the same lines
// always give the same needles.
type picker struct {
	lines [][]byte
	text  []byte // of all lines, end to end
	rng   *rand.Rand
}

func (p *picker) line() []byte { return p.lines[p.rng.IntN(len(p.lines))] }

// questions chooses one needle of each class: an identifier that is nowhere, one that one
// to three lines hold, the longest word that 20 to 90 % of the lines hold, text across the
// beginning of an identifier, a field, where the system has fields, and expressions.
func questions(system string, blocks []block) []question {
	p := &picker{rng: rand.New(rand.NewPCG(11, 12))}
	for i := range blocks {
		p.text = append(p.text, blocks[i].lines.Slab...)
		for k := range blocks[i].lines.Len() {
			p.lines = append(p.lines, blocks[i].lines.At(k))
		}
	}
	var out []question
	add := func(class string, term match.Term) {
		if term.Literal != "" || term.Regexp != "" {
			out = append(out, question{class, match.Filter{Any: []match.Term{term}}})
		}
	}
	absent, rare := p.identifiers()
	add("absent id", match.Term{Literal: absent})
	add("rare id", match.Term{Literal: rare})
	common, word := p.words()
	add("common word", match.Term{Literal: common})
	add("across tokens", match.Term{Literal: p.across()})
	add("any case", match.Term{Literal: strings.ToUpper(common), Fold: true})
	if word == "" {
		word = common
	}
	behind := p.behind(word)
	fields := map[string]string{
		"access": `" 404 `, "agent": " level=error ", "distributor": " orgID=3648 ",
		"drone": `"status":200,`, "journald": "level=warning", "nginxplus": `"pid":64856,`,
	}
	add("field", match.Term{Literal: fields[system]})
	add("regexp, words", match.Term{Regexp: "(?i)" + strings.ToUpper(word) + ".*" + behind})
	add("regexp, absent", match.Term{Regexp: "(?i)(kernel panic|out of memory|segfault)"})
	add("regexp, verified", match.Term{Regexp: word + `.*[a-z]=?\d+[a-z ]`})
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// span is a part of a line.
type span struct{ from, to int }

// identifiersOf returns the words with digits of the first bytes of a line.
func identifiersOf(line []byte) (out []span) {
	line = line[:min(len(line), 600)]
	for i := 0; i < len(line); i++ {
		from, digits := i, false
		for i < len(line) && (isLetter(line[i]) || isDigit(line[i])) {
			digits = digits || isDigit(line[i])
			i++
		}
		if digits {
			out = append(out, span{from, i})
		}
	}
	return out
}

// identifiers makes an identifier that is nowhere out of one of the longest of some lines,
// and finds one that is rare among them.
func (p *picker) identifiers() (absent, rare string) {
	var all [][]byte
	for range 400 {
		line := p.line()
		for _, s := range identifiersOf(line) {
			if n := s.to - s.from; n >= 5 && n <= 40 {
				all = append(all, line[s.from:s.to])
			}
		}
	}
	slices.SortStableFunc(all, func(a, b []byte) int { return len(b) - len(a) })
	for _, id := range all[:min(len(all), 300)] {
		if absent == "" {
			absent = p.absent(id)
		}
		if rare == "" {
			if n := bytes.Count(p.text, id); n >= 1 && n <= 3 {
				rare = string(id)
			}
		}
		if absent != "" && rare != "" {
			break
		}
	}
	return absent, rare
}

// absent changes digits of an identifier until no line holds it.
func (p *picker) absent(id []byte) string {
	id = bytes.Clone(id)
	for range 50 {
		for i := len(id) / 2; i < len(id); i++ {
			if isDigit(id[i]) {
				id[i] = byte('0' + p.rng.IntN(10))
			}
		}
		if !bytes.Contains(p.text, id) {
			return string(id)
		}
	}
	return ""
}

var longWord = regexp.MustCompile(`[A-Za-z]{4,}`)

// words returns the longest word of many lines, and the longest of half a percent to 5 %
// of them; the first in the order of the alphabet.
func (p *picker) words() (common, some string) {
	const sample = 500
	lines := map[string]int{}
	for range sample {
		seen := map[string]bool{}
		for _, w := range longWord.FindAll(p.line(), -1) {
			if !seen[string(w)] {
				seen[string(w)] = true
				lines[string(w)]++
			}
		}
	}
	words := make([]string, 0, len(lines))
	for w := range lines {
		words = append(words, w)
	}
	slices.Sort(words)
	for _, most := range []int{sample * 9 / 10, sample} {
		for _, w := range words {
			n := lines[w]
			if n >= sample*2/10 && n <= most && len(w) > len(common) {
				common = w
			}
			if n >= sample/200 && n <= sample/20 && len(w) > len(some) {
				some = w
			}
		}
		if common != "" {
			break
		}
	}
	return common, some
}

// across returns a text of a line that begins before an identifier and ends in it, and that
// few lines hold.
func (p *picker) across() string {
	for range 2000 {
		line := p.line()
		ids := identifiersOf(line)
		if len(ids) < 3 {
			continue
		}
		s := ids[2+p.rng.IntN(len(ids)-2)]
		if s.from < 8 || s.to-s.from < 4 {
			continue
		}
		text := line[s.from-7 : s.from+3]
		n := 0
		for _, l := range p.lines {
			if bytes.Contains(l, text) {
				n++
			}
		}
		if n < len(p.lines)/20 {
			return string(text)
		}
	}
	return ""
}

// behind returns the last word behind another one in a line that has both.
func (p *picker) behind(word string) string {
	for range 5000 {
		_, rest, found := bytes.Cut(p.line(), []byte(word))
		if !found {
			continue
		}
		if all := longWord.FindAll(rest, -1); len(all) > 0 {
			return string(all[len(all)-1])
		}
		break
	}
	return word[:min(len(word), 2)]
}
