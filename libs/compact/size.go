package compact

import (
	"cmp"
	"slices"

	"github.com/weir-logs/weir/libs/block"
)

// Sized is a live block whose bytes count towards a tenant's.
type Sized struct {
	Block
	// Unique are the bytes that no block before it holds, too.
	Unique int64
	// Cost is about how many bytes go: all, or a part where it is rewritten.
	Cost int64
}

// Count returns the blocks with their bytes, oldest first. Equal runs count once:
// copies of replicas, that wait for their merge, take no room of their own. streams
// is asked for the streams of blocks that share times with others.
func Count(blocks []Block, streams func(Block) ([]Stream, error)) ([]Sized, error) {
	list := slices.Clone(blocks)
	slices.SortFunc(list, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.ID, b.ID))
	})
	shares := make([]bool, len(list)) // times with another block of its partition
	for i := range list {
		for k := i + 1; k < len(list) && list[k].MinTime <= list[i].MaxTime; k++ {
			if list[k].Partition.Equal(list[i].Partition) {
				shares[i], shares[k] = true, true
			}
		}
	}
	type key struct {
		stream string
		run    block.Run
	}
	seen := map[key]bool{}
	out := make([]Sized, len(list))
	for i, b := range list {
		out[i] = Sized{Block: b, Unique: b.Size, Cost: b.Size}
		if !shares[i] {
			continue
		}
		all, err := streams(b)
		if err != nil {
			return nil, err
		}
		total, copies := uint64(0), uint64(0)
		for _, s := range all {
			name := s.Labels.String()
			for _, r := range s.Runs {
				cost := r.Bytes + 8*r.Rows
				total += cost
				if k := (key{name, r}); seen[k] {
					copies += cost
				} else {
					seen[k] = true
				}
			}
		}
		if total > 0 {
			out[i].Unique -= int64(float64(b.Size) * float64(copies) / float64(total))
		}
	}
	slices.SortStableFunc(out, func(a, b Sized) int {
		return cmp.Or(cmp.Compare(a.MaxTime, b.MaxTime), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Total is the bytes of blocks, copies counted once.
func Total(list []Sized) (n int64) {
	for _, b := range list {
		n += b.Unique
	}
	return n
}

// Excess returns the oldest blocks without which the others take no more than limit
// bytes. 0 is no limit.
func Excess(list []Sized, limit int64) []Sized {
	if limit == 0 {
		return nil
	}
	total := Total(list)
	n := 0
	for ; n < len(list) && total > limit; n++ {
		total -= list[n].Unique
	}
	return list[:n]
}

// Allowance bounds how much of a tenant retention removes per cycle, so that a
// mistake in the configuration is seen before all is gone. It is used by one
// goroutine.
type Allowance struct {
	saved float64
}

// Spend returns those of the candidates, in order, that may go in this cycle: blocks
// of up to a share of total bytes. What a block that is larger than that lacks is
// saved up over cycles, while it waits.
func (a *Allowance) Spend(candidates []Sized, total int64, share float64) []Sized {
	if len(candidates) == 0 {
		a.saved = 0
		return nil
	}
	a.saved += float64(total) * share
	n := 0
	for ; n < len(candidates) && float64(candidates[n].Cost) <= a.saved; n++ {
		a.saved -= float64(candidates[n].Cost)
	}
	if n > 0 { // nothing is saved but for what waits at the head
		a.saved = 0
	}
	return candidates[:n]
}
