package blockstore

import (
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// ruledOut reports whether the grams of a section tell that a row group of it has no line
// that is wanted: where they rule out all, no program is made for the section. Programs ask
// the grams too: once there is one, it is enough.
func (s *selected) ruledOut(number int, foot *block.SectionFooter, index int, by ...*filters) bool {
	if foot.Grams == nil {
		return false
	}
	for _, f := range by {
		if _, made := f.sections.Load(number); made {
			continue
		}
		if may := f.may(number, foot.Grams); may != nil && !may.Has(index) {
			return true
		}
	}
	return false
}

// may returns which row groups of a section may have lines that match; nil: any may.
func (f *filters) may(number int, g *grams.Region) grams.Set {
	if f.program == nil {
		return nil
	}
	if may, ok := f.left.Load(number); ok {
		return may.(grams.Set)
	}
	may := f.program.May(g)
	f.left.Store(number, may)
	return may
}

// prepare reads the footers of the sections of row groups, which ascend, and opens those
// whose templates decide about one, several at the same time: on the first query of a
// block that takes longer than all else. Errors come again when the sections are asked for.
func (s *selected) prepare(groups []int) {
	type part struct {
		number int
		groups []int
	}
	var parts []part
	var keys []key
	for i, g := range groups {
		if n, _ := s.store.block.Place(g); len(parts) == 0 || parts[len(parts)-1].number != n {
			parts = append(parts, part{number: n})
			keys = append(keys, key{block: s.store.block, kind: kindSection, n: n})
		}
		p := &parts[len(parts)-1]
		p.groups = groups[i-len(p.groups) : i+1]
	}
	if len(s.store.cache.missing(keys)) < 2 {
		return
	}
	engine.Spread(len(parts), func(i int) {
		for _, g := range parts[i].groups {
			if s.ctx.Err() != nil {
				return
			}
			if _, _, err := s.decide(g); err != nil {
				return
			}
		}
	})
}
