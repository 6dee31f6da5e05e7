// Package catalog says which blocks a store consists of. It is pure.
//
// There is no database of blocks. A listing of the object store says which blocks
// exist, and their footers say what they were made from. From both follows the
// set of live blocks: nothing is ever void, a block is only hidden, namely when
// the blocks that are there contain all of it. Two compactors at once, a merge
// that was interrupted, a listing that is old: each costs work, none costs data,
// since blocks that overlap are united by whoever reads them.
//
// A Snapshot is what a query sees: immutable, whatever becomes of the store.
package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ID identifies a block for ever; it is never used again.
type ID string

// Source is a block, or part of one, that another was made from.
type Source struct {
	ID ID
	// Part of Of says which part of the source this is, counted from 0. A source
	// that was merged into one block is part 0 of 1.
	Part, Of int
	// Merge identifies the merge that cut the source. Another merge may have cut
	// it elsewhere, so only parts of one merge add up to the whole.
	Merge ID
}

// Block describes a block that is listed and whose footer was read.
type Block struct {
	ID        ID
	Tenant    string
	Partition time.Time // the UTC day that its entries belong to; zero: any
	Level     int       // how often it was merged
	// MinTime and MaxTime of its entries, inclusive, nanoseconds since the Unix epoch.
	MinTime, MaxTime int64
	Size             int64 // bytes of the object
	Sources          []Source
}

// Snapshot is the blocks of a store at one moment. It is immutable.
type Snapshot struct {
	live   map[string][]Block // by tenant, ascending by MinTime, then ID
	hidden map[ID][]ID        // the blocks that hide it
	taken  time.Time
}

// NewSnapshot finds the live ones of all blocks that are listed. Their footers
// must be valid: a block that cannot be read hides nothing and is not to be among
// them. Of blocks listed twice the first counts. taken is when the listing began.
func NewSnapshot(blocks []Block, taken time.Time) (*Snapshot, error) {
	s := &Snapshot{live: map[string][]Block{}, hidden: map[ID][]ID{}, taken: taken}
	known := make(map[ID]*Block, len(blocks))
	for i := range blocks {
		b := &blocks[i]
		if err := b.validate(); err != nil {
			return nil, err
		}
		if known[b.ID] == nil {
			known[b.ID] = b
		}
	}
	type cut struct {
		source, merge ID
		of            int
	}
	parts := map[cut]map[int]ID{} // which block holds which part
	for _, b := range known {
		for _, src := range b.Sources {
			c := cut{src.ID, src.Merge, src.Of}
			if parts[c] == nil {
				parts[c] = map[int]ID{}
			}
			parts[c][src.Part] = b.ID
		}
	}
	for c, has := range parts {
		if len(has) != c.of || known[c.source] == nil {
			continue
		}
		for _, by := range has {
			if !slices.Contains(s.hidden[c.source], by) {
				s.hidden[c.source] = append(s.hidden[c.source], by)
			}
		}
		slices.Sort(s.hidden[c.source])
	}
	for _, b := range known {
		if s.hidden[b.ID] == nil {
			s.live[b.Tenant] = append(s.live[b.Tenant], *b)
		}
	}
	for _, list := range s.live {
		slices.SortFunc(list, func(a, b Block) int {
			return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.ID, b.ID))
		})
	}
	return s, nil
}

func (b *Block) validate() error {
	var errs []error
	if b.ID == "" || b.Tenant == "" {
		errs = append(errs, errors.New("no id or no tenant"))
	}
	if b.MinTime > b.MaxTime {
		errs = append(errs, fmt.Errorf("it begins at %d and ends at %d", b.MinTime, b.MaxTime))
	}
	for _, s := range b.Sources {
		if s.Of < 1 || s.Part < 0 || s.Part >= s.Of {
			errs = append(errs, fmt.Errorf("source %s is part %d of %d", s.ID, s.Part, s.Of))
		}
		if s.ID == b.ID {
			errs = append(errs, errors.New("it is its own source"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("block %q: %w", b.ID, err)
	}
	return nil
}

// Taken is when the listing behind the snapshot began.
func (s *Snapshot) Taken() time.Time { return s.taken }

// Live returns the tenant's live blocks that may hold entries with
// start <= time < end, ascending by their first time.
func (s *Snapshot) Live(tenant string, start, end int64) []Block {
	var out []Block
	for _, b := range s.live[tenant] {
		if b.MinTime >= end {
			break
		}
		if b.MaxTime >= start {
			out = append(out, b)
		}
	}
	return out
}

// HiddenBy returns blocks that contain all of a block together, ascending, or nil
// if it is live or not listed. They may be hidden themselves, and some of them may
// be enough.
func (s *Snapshot) HiddenBy(id ID) []ID { return s.hidden[id] }
