package match

import (
	"iter"
	"math"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
)

// brief is what rules out most columns of a section for a needle: there are thousands, and
// their summaries take up much memory.
type brief struct {
	most    uint16 // bytes of a value; greater ones are this
	classes column.Class
	isTime  bool
}

func briefsOf(s *lines.Section) []brief {
	out := make([]brief, len(s.Table.Columns))
	for c := range out {
		b := &out[c]
		b.isTime = s.Table.Columns[c].IsTime
		if b.most, b.classes = math.MaxUint16, ^column.Class(0); s.Columns != nil {
			b.most, b.classes = uint16(min(s.Columns[c].MaxLen, math.MaxUint16)), s.Columns[c].Classes
		}
	}
	return out
}

// possibleColumns returns the columns that can hold all of a needle.
func (x *index) possibleColumns(n *needle) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		need := column.Class(0)
		for _, c := range n.text {
			need |= column.ClassOf(c)
		}
		if n.fold {
			need = 0
		}
		length := uint16(min(len(n.text), math.MaxUint16))
		var asked, is [256]bool // of layouts
		for c := range x.briefs {
			b := &x.briefs[c]
			if b.isTime {
				l := x.section.Table.Columns[c].Layout
				if !asked[l] {
					asked[l], is[l] = true, x.possible(uint32(c), contains, n.text, n.fold)
				}
				if !is[l] {
					continue
				}
			} else if length > b.most || need&^b.classes != 0 || !x.possible(uint32(c), contains, n.text, n.fold) {
				continue
			}
			if !yield(uint32(c)) {
				return
			}
		}
	}
}
