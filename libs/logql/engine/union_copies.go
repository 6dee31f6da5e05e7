package engine

import (
	"cmp"
	"slices"
)

// copies tells sessions apart by which copy of the streams they are of. Replicas, or what was
// sent twice, are cut into blocks at other rows: those of one copy follow each other, and
// those of different ones overlap nearly everywhere. What is found is a guess that costs
// nothing if it is wrong: sums of digests tell whether two copies have the same rows.
type copies struct {
	of   []int32 // of each session; nil: there is one copy
	sums []copySum
}

type copySum struct {
	Run
	classes int
	left    bool // another copy has the same rows
}

const (
	// sampledPairs is of how many pairs of places it is found out whether they overlap.
	sampledPairs = 1 << 14
	// maxCopies is how many copies there may be.
	maxCopies = 16
	// mostTold is how many sessions are told apart at most: each is compared with each.
	mostTold = 512
)

// findCopies puts the sessions, by their first times, one behind another that ended before.
func findCopies(lists []listing, places [][]place) copies {
	n := len(lists)
	if n > mostTold {
		return copies{}
	}
	type span struct{ first, last int64 }
	spans := make([]span, n)
	conflict := make([]int32, n*n) // how many more streams of two sessions overlap than do not
	seen := make([]bool, n)
	pairs := 0
	var abuf, bbuf []Run
	step := max(1, len(places)/256)
	for at := 0; at < len(places) && pairs < sampledPairs; at += step {
		list := places[at]
		for i, a := range list {
			as := lists[a.session].runs(&abuf, int(a.stream))
			if len(as) == 0 {
				continue
			}
			sp := span{as[0].MinTime, as[len(as)-1].MaxTime}
			if !seen[a.session] {
				seen[a.session], spans[a.session] = true, sp
			}
			s := &spans[a.session]
			s.first, s.last = min(s.first, sp.first), max(s.last, sp.last)
			for _, b := range list[:i] {
				pairs++
				more := int32(-1)
				if overlap(as, lists[b.session].runs(&bbuf, int(b.stream))) {
					more = 1
				}
				conflict[int(a.session)*n+int(b.session)] += more
				conflict[int(b.session)*n+int(a.session)] += more
			}
		}
	}
	order := make([]int, 0, n)
	for i := range seen {
		if seen[i] {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(spans[a].first, spans[b].first) })
	of := make([]int32, n)
	var chains [][]int
	for _, s := range order {
		best, ended := -1, int64(0)
		for c, chain := range chains {
			if slices.ContainsFunc(chain, func(o int) bool { return conflict[s*n+o] > 0 }) {
				continue
			}
			if last := spans[chain[len(chain)-1]].last; best < 0 || last > ended {
				best, ended = c, last
			}
		}
		if best < 0 {
			if len(chains) == maxCopies {
				return copies{}
			}
			best, chains = len(chains), append(chains, nil)
		}
		chains[best] = append(chains[best], s)
		of[s] = int32(best)
	}
	if len(chains) < 2 {
		return copies{}
	}
	return copies{of: of, sums: make([]copySum, len(chains))}
}

// overlap reports whether a run of one list has times between those of a run of the other.
func overlap(a, b []Run) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].MaxTime < b[0].MinTime:
			a = a[1:]
		case b[0].MaxTime < a[0].MinTime:
			b = b[1:]
		default:
			return true
		}
	}
	return false
}

// leave leaves the classes of a piece without those of copies that have the same rows as
// another one. Of copies the one in fewest classes is read, so that fewest rows are united.
func (c *copies) leave(classes []group) []group {
	if len(c.of) == 0 || len(classes) < 3 {
		return classes
	}
	clear(c.sums)
	for i := range classes {
		sum := classes[i].Run
		for _, pl := range classes[i].places {
			s := &c.sums[c.of[pl.session]]
			s.Run = s.plus(sum, s.classes == 0)
			s.classes++
		}
	}
	any := false
	for i := range c.sums {
		a := &c.sums[i]
		for k := range c.sums[:i] {
			b := &c.sums[k]
			if a.classes == 0 || b.classes == 0 || !a.sameAs(b.Run) {
				continue
			}
			any = true
			if a.classes < b.classes {
				b.left = true
			} else {
				a.left = true
			}
		}
	}
	if !any {
		return classes
	}
	return slices.DeleteFunc(classes, func(g group) bool {
		return !slices.ContainsFunc(g.places, func(pl place) bool { return !c.sums[c.of[pl.session]].left })
	})
}
