package catalog

import (
	"cmp"
	"slices"
)

// lineage says which blocks contain which others.
type lineage struct {
	listed map[ID]*Block
	gone   map[ID]*Block // their objects were removed on purpose
	cuts   map[ID][]cut  // the complete ones, by source
}

// cut is one merge's blocks that contain all of a source together.
type cut struct{ holders []ID } // ascending, each once

func newLineage(listed, gone map[ID]*Block) *lineage {
	l := &lineage{listed, gone, map[ID][]cut{}}
	type name struct {
		source, merge ID
		of            int
	}
	parts := map[name]map[int]ID{} // which block holds which part
	add := func(b *Block) {
		whole := [...]ID{b.ID}
		for _, src := range b.Sources {
			if src.Of == 1 { // most are, and need no counting
				l.cuts[src.ID] = append(l.cuts[src.ID], cut{whole[:]})
				continue
			}
			c := name{src.ID, src.Merge, src.Of}
			if parts[c] == nil {
				parts[c] = map[int]ID{}
			}
			// Of two that hold it the one that is listed counts.
			if have, ok := parts[c][src.Part]; !ok || listed[have] == nil || listed[b.ID] != nil && b.ID < have {
				parts[c][src.Part] = b.ID
			}
		}
	}
	for _, b := range gone {
		if listed[b.ID] == nil {
			add(b)
		}
	}
	for _, b := range listed {
		add(b)
	}
	for c, has := range parts {
		if len(has) != c.of {
			continue
		}
		holders := make([]ID, 0, len(has))
		for _, by := range has {
			holders = append(holders, by)
		}
		slices.Sort(holders)
		l.cuts[c.source] = append(l.cuts[c.source], cut{slices.Compact(holders)})
	}
	for _, cuts := range l.cuts {
		if len(cuts) == 1 {
			continue
		}
		slices.SortFunc(cuts, func(a, b cut) int { return slices.Compare(a.holders, b.holders) })
	}
	return l
}

// hiding returns the cuts whose blocks are all listed.
func (l *lineage) hiding(id ID) []cut {
	var out []cut
	for _, c := range l.cuts[id] {
		if !slices.ContainsFunc(c.holders, func(h ID) bool { return l.listed[h] == nil }) {
			out = append(out, c)
		}
	}
	return out
}

// covering returns live blocks that contain all of a block that is hidden or not listed, ascending;
// ok is false if there is no such set. Blocks that are gone are passed through: what contained them
// contains what they did.
func (l *lineage) covering(id ID) (live []ID, ok bool) {
	set := map[ID]bool{}
	if !l.cover(id, set, map[ID]bool{}) {
		return nil, false
	}
	for id := range set {
		live = append(live, id)
	}
	slices.Sort(live)
	return live, true
}

// cover adds the live blocks that contain id to into. path are the blocks on the way, so that footers
// that name each other, which no merge writes, end.
func (l *lineage) cover(id ID, into, path map[ID]bool) bool {
	if path[id] {
		return false
	}
	path[id] = true
	defer delete(path, id)
cuts:
	for _, c := range l.cuts[id] {
		found := map[ID]bool{}
		for _, h := range c.holders {
			if l.listed[h] != nil && len(l.hiding(h)) == 0 {
				found[h] = true
			} else if !l.cover(h, found, path) {
				continue cuts
			}
		}
		for h := range found {
			into[h] = true
		}
		return true
	}
	return false
}

// contains reports whether the listed blocks contain all of one that is not among them: a merge's
// result holds nothing that its sources do not. Sources in out are not listed, either. path is
// as for cover.
func (l *lineage) contains(b *Block, out map[ID]*Block, path map[ID]bool) bool {
	if _, ok := l.covering(b.ID); ok {
		return true
	}
	if len(b.Sources) == 0 || path[b.ID] {
		return false
	}
	path[b.ID] = true
	defer delete(path, b.ID)
	return !slices.ContainsFunc(b.Sources, func(src Source) bool {
		if l.listed[src.ID] != nil {
			return false
		}
		if x := out[src.ID]; x != nil {
			return !l.contains(x, out, path)
		}
		_, ok := l.covering(src.ID)
		return !ok
	})
}

func sortBlocks(list []Block) {
	slices.SortFunc(list, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.ID, b.ID))
	})
}
