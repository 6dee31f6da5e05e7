package compact

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
)

// Policy says when blocks are merged.
type Policy struct {
	MergeSize  int64         // bytes of blocks that are worth a merge
	MergeShare float64       // of a closed partition, that late blocks are worth another full merge
	MaxWait    time.Duration // how long a block may wait to be merged
	CloseAfter time.Duration // how long after its day's end a partition is closed; no block that comes later is waited for
	MaxSources int           // of one merge
	// Urgent: nothing waits for more blocks to come.
	Urgent bool
}

// MarkOrdered among a block's tombstones says that its order is fixed, so that the
// catalog knows it without its footer.
const MarkOrdered = "ordered"

// Block is a live block as the planner knows it.
type Block struct {
	catalog.Block
	Ordered bool      // the order is fixed
	Created time.Time // when it was written
	// Due is that rows are to be removed from it: by a delete whose rewriting has
	// started, or by retention.
	Due bool
}

// NewBlock returns a block of a catalog.
func NewBlock(b catalog.Block) Block {
	return Block{Block: b, Ordered: slices.Contains(b.Tombstones, MarkOrdered), Created: b.ID.Time()}
}

// Reason is why blocks are merged.
type Reason string

// The reasons.
const (
	ReasonSmall   Reason = "small"    // blocks of an open partition became many or large
	ReasonClosed  Reason = "closed"   // the full merge of a partition
	ReasonLate    Reason = "late"     // blocks came after the full merge
	ReasonAnyTime Reason = "any_time" // a block that holds entries of many days is cut
	ReasonRemove  Reason = "remove"   // a delete or retention takes rows away
)

// Task is blocks of one tenant and partition that are to be merged.
type Task struct {
	Tenant    string
	Partition time.Time // zero: any
	Sources   []Block   // ascending by their first time, then id
	// Fix: the order of equal times is fixed, and what told it is dropped. It is so
	// for full merges of closed partitions alone.
	Fix    bool
	Reason Reason
}

// Bytes is the size of the sources.
func (t *Task) Bytes() (n int64) {
	for i := range t.Sources {
		n += t.Sources[i].Size
	}
	return n
}

// Plan returns the merges that are worth it at time now, of the live blocks of one
// tenant. No block is in two of them. The tasks of a partition are in order; those
// of older partitions come first.
func Plan(blocks []Block, now time.Time, p Policy) []Task {
	byPartition := map[time.Time][]Block{}
	for _, b := range blocks {
		key := b.Partition.UTC()
		byPartition[key] = append(byPartition[key], b)
	}
	var tasks []Task
	for partition, list := range byPartition {
		slices.SortFunc(list, func(a, b Block) int {
			return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.ID, b.ID))
		})
		taken := map[catalog.ID]bool{}
		add := func(sources []Block, fix bool, why Reason) {
			for _, b := range sources {
				taken[b.ID] = true
			}
			tasks = append(tasks, Task{Tenant: list[0].Tenant, Partition: partition, Sources: sources, Fix: fix, Reason: why})
		}
		if partition.IsZero() {
			if p.worth(list, now) {
				add(first(list, p.MaxSources), false, ReasonAnyTime)
			}
		} else {
			p.planDay(partition, list, now, add)
		}
		for _, b := range list {
			if b.Due && !taken[b.ID] {
				add([]Block{b}, b.Ordered, ReasonRemove)
			}
		}
	}
	slices.SortStableFunc(tasks, func(a, b Task) int { return a.Partition.Compare(b.Partition) })
	return tasks
}

// planDay plans the blocks of one day.
func (p Policy) planDay(day time.Time, list []Block, now time.Time, add func([]Block, bool, Reason)) {
	var fixed, loose []Block
	for _, b := range list {
		if b.Ordered {
			fixed = append(fixed, b)
		} else {
			loose = append(loose, b)
		}
	}
	if len(loose) == 0 && len(fixed) < 2 {
		return
	}
	closed := !now.Before(day.Add(24*time.Hour + p.CloseAfter))
	if closed && (p.settled(loose, now) || p.worth(loose, now)) {
		switch {
		case len(list) > p.MaxSources:
			// Too many for one merge: those that are least in the way first.
		case len(fixed) == 0:
			add(list, true, ReasonClosed)
			return
		case overlap(fixed):
			// Two full merges at once; union makes it harmless, one block is better.
			add(list, true, ReasonClosed)
			return
		case p.Urgent || float64(size(loose)) >= p.MergeShare*float64(size(fixed)):
			if len(loose) > 0 {
				add(list, true, ReasonLate)
			}
			return
		}
	}
	why := ReasonSmall
	if len(fixed) > 0 {
		why = ReasonLate
	}
	// Blocks of a level together, so that a row is not merged again and again.
	byLevel := map[int][]Block{}
	for _, b := range loose {
		byLevel[b.Level] = append(byLevel[b.Level], b)
	}
	for level, some := range byLevel {
		if len(some) < 2 {
			continue
		}
		if len(some) >= p.MaxSources || level == 0 && p.worth(some, now) || closed && len(list) > p.MaxSources {
			add(first(some, p.MaxSources), false, why)
		}
	}
}

// worth reports whether blocks are many, large or old enough.
func (p Policy) worth(list []Block, now time.Time) bool {
	if len(list) == 0 {
		return false
	}
	oldest := list[0].Created
	for _, b := range list {
		if b.Created.Before(oldest) {
			oldest = b.Created
		}
	}
	return p.Urgent || len(list) >= p.MaxSources || size(list) >= p.MergeSize || now.Sub(oldest) >= p.MaxWait
}

// settled reports whether no block has come for a while.
func (p Policy) settled(list []Block, now time.Time) bool {
	for _, b := range list {
		if now.Sub(b.Created) < p.CloseAfter {
			return false
		}
	}
	return true
}

// overlap reports whether blocks, ascending by their first time, share times.
func overlap(list []Block) bool {
	for i := range list {
		if i > 0 && list[i].MinTime <= list[i-1].MaxTime {
			return true
		}
	}
	return false
}

func size(list []Block) (n int64) {
	for i := range list {
		n += list[i].Size
	}
	return n
}

func first(list []Block, n int) []Block { return list[:min(n, len(list))] }

// Cuts returns the times at which a merge of sources is best cut into about equal
// parts: at most parts-1, strictly ascending.
func Cuts(sources []Source, parts int) []int64 {
	if parts < 2 {
		return nil
	}
	const slot = int64(5 * time.Minute)
	bytes := map[int64]uint64{} // by slot; runs begin in one
	total := uint64(0)
	for _, s := range sources {
		for _, st := range s.Streams() {
			for _, r := range st.Runs {
				cost := r.Bytes + 8*r.Rows
				bytes[r.MinTime/slot] += cost
				total += cost
			}
		}
	}
	slots := make([]int64, 0, len(bytes))
	for s := range bytes {
		slots = append(slots, s)
	}
	slices.Sort(slots)
	var cuts []int64
	sum := uint64(0)
	for i, s := range slots {
		if i > 0 && sum >= total/uint64(parts)*uint64(len(cuts)+1) && len(cuts) < parts-1 {
			cuts = append(cuts, s*slot)
		}
		sum += bytes[s]
	}
	return cuts
}

// Day is the partition that an entry's time belongs to.
func Day(t int64) time.Time { return time.Unix(0, t).UTC().Truncate(24 * time.Hour) }
