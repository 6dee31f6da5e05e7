package match

import "github.com/weir-logs/weir/libs/block/lines"

// maxGrams is of how many grams of a needle it is asked whether values have them.
const maxGrams = 32

// findLacking finds out which grams of the needle no value has, other than in-line times, of
// the blocks of which a template has all of the needle: there, the grams of lines tell
// nothing of values. Call it once it is known how templates come into question.
func (n *sectionNeedle) findLacking(s *lines.Section) {
	if !s.TellsShared || n.how == nil {
		return
	}
	var grams []uint32
	for i := 0; i+4 <= len(n.text) && len(grams) < maxGrams; i++ {
		if g, ok := lines.Gram(n.text[i:]); ok {
			grams = append(grams, g)
			n.grams = append(n.grams, i)
		}
	}
	for block := range s.Blocks {
		if !n.in(block) || len(grams) == 0 || !n.literalIn(s, block) {
			continue
		}
		lacks := uint32(0)
		for i, g := range grams {
			if !s.Shared(block, g) {
				lacks |= 1 << i
			}
		}
		if lacks != 0 && n.lacks == nil {
			n.lacks = make([]uint32, len(s.Blocks))
		}
		if lacks != 0 {
			n.lacks[block] = lacks
		}
	}
}

// literalIn reports whether lines of a block hold the needle in the literal text of their
// template.
func (n *sectionNeedle) literalIn(s *lines.Section, block int) bool {
	for _, c := range s.Blocks[block].Templates {
		if n.how[c.Template]&inLiteral != 0 {
			return true
		}
	}
	return false
}

// gramsOf returns those grams of the needle, as bits, that lie in its bytes from … to-1.
func (n *sectionNeedle) gramsOf(from, to int) (set uint32) {
	for i, at := range n.grams {
		if at >= from && at+4 <= to {
			set |= 1 << i
		}
	}
	return set
}

// lacking reports whether one of some grams of the needle is in no value of a block, other
// than in-line times.
func (n *sectionNeedle) lacking(block int, grams uint32) bool {
	return n.lacks != nil && n.lacks[block]&grams != 0
}

// meets reports whether lines of a block may hold the needle so.
func (n *sectionNeedle) meets(block int, a *alignment) bool {
	return n.in(block) && !n.lacking(block, a.grams)
}
