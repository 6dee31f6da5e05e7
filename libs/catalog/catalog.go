// Package catalog says which blocks a store consists of. It is pure but for the
// Loader, which reads a bucket.
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
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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
	// Tombstones are the ids of those that were applied to every row.
	Tombstones []string
	// Rows and RawBytes, of its lines, as its footer says.
	Rows, RawBytes int64
}

// Snapshot is the blocks of a store at one moment. It is immutable.
type Snapshot struct {
	live     map[string][]Block // by tenant, ascending by MinTime, then ID
	lineage  *lineage
	problems []Problem
	taken    time.Time
}

// NewSnapshot finds the live ones of all blocks that are listed. Their footers
// must be valid: a block that cannot be read hides nothing and is not to be among
// them. Of blocks listed twice the first counts. taken is when the listing began.
func NewSnapshot(blocks []Block, taken time.Time) (*Snapshot, error) {
	return newSnapshot(blocks, nil, nil, taken)
}

// newSnapshot is NewSnapshot that knows of blocks that were removed and of
// problems. It keeps both.
func newSnapshot(blocks []Block, gone map[ID]*Block, problems []Problem, taken time.Time) (*Snapshot, error) {
	listed := make(map[ID]*Block, len(blocks))
	for i := range blocks {
		b := &blocks[i]
		if err := b.validate(); err != nil {
			return nil, err
		}
		if listed[b.ID] == nil {
			listed[b.ID] = b
		}
	}
	return fromLineage(newLineage(listed, gone), problems, taken), nil
}

func fromLineage(l *lineage, problems []Problem, taken time.Time) *Snapshot {
	s := &Snapshot{live: map[string][]Block{}, lineage: l, problems: problems, taken: taken}
	for _, b := range l.listed {
		if len(l.hiding(b.ID)) == 0 {
			s.live[b.Tenant] = append(s.live[b.Tenant], *b)
		}
	}
	for _, list := range s.live {
		sortBlocks(list)
	}
	return s
}

func (b *Block) validate() error {
	var errs []error
	if b.ID == "" || b.Tenant == "" {
		errs = append(errs, errors.New("no id or no tenant"))
	}
	if b.Level < 0 || b.Level > 255 || b.Size < 0 || b.Rows < 0 || b.RawBytes < 0 {
		errs = append(errs, fmt.Errorf("level %d, %d bytes, %d rows of %d bytes", b.Level, b.Size, b.Rows, b.RawBytes))
	}
	if p := b.Partition; !p.IsZero() && !p.Equal(p.UTC().Truncate(day)) {
		errs = append(errs, fmt.Errorf("partition %s is no UTC day", p))
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

// Block returns a block that is listed, live or hidden.
func (s *Snapshot) Block(id ID) (Block, bool) {
	if b := s.lineage.listed[id]; b != nil {
		return *b, true
	}
	return Block{}, false
}

// Listed returns all blocks, live and hidden, ascending by their first time.
func (s *Snapshot) Listed() []Block {
	out := make([]Block, 0, len(s.lineage.listed))
	for _, b := range s.lineage.listed {
		out = append(out, *b)
	}
	sortBlocks(out)
	return out
}

// HiddenBy returns blocks that contain all of a block together, ascending, or nil
// if it is live or not listed. They may be hidden themselves, and some of them may
// be enough.
func (s *Snapshot) HiddenBy(id ID) []ID {
	if s.lineage.listed[id] == nil {
		return nil
	}
	var by []ID
	for _, c := range s.lineage.hiding(id) {
		by = append(by, c.holders...)
	}
	slices.Sort(by)
	return slices.Compact(by)
}

// Covering returns live blocks that contain all of a block together, which is
// hidden or not listed (any more), ascending. ok is false if there is no such set:
// the block is live, or nothing is known of it.
func (s *Snapshot) Covering(id ID) (live []ID, ok bool) {
	return s.lineage.covering(id)
}

// Without returns the snapshot as it were if blocks that are bad were not listed: what they
// were made from is live then, as far as it is there. A bad block that the others do not
// contain stays. without are those that did not, ascending.
func (s *Snapshot) Without(bad map[ID]bool) (_ *Snapshot, without []ID) {
	out := map[ID]*Block{}
	for id := range bad {
		if b := s.lineage.listed[id]; b != nil {
			out[id] = b
		}
	}
	if len(out) == 0 {
		return s, nil
	}
	rest := maps.Clone(s.lineage.listed)
	for id := range out {
		delete(rest, id)
	}
	l := newLineage(rest, s.lineage.gone)
	for id, b := range out {
		if l.contains(b, out, map[ID]bool{}) {
			without = append(without, id)
		}
	}
	if len(without) == 0 {
		return s, nil
	}
	slices.Sort(without)
	for id, b := range out {
		if _, ok := slices.BinarySearch(without, id); !ok {
			rest[id] = b
		}
	}
	return fromLineage(newLineage(rest, s.lineage.gone), s.problems, s.taken), without
}

// Replace says how a query over the blocks in use goes on when one of them has
// vanished and s is a newer snapshot: it reads add as well and discards what it got
// from drop, the vanished one among them, for add and the rest of in use contain
// it. ok is false if s does not contain the vanished block: its entries are lost, or
// s is as old.
func (s *Snapshot) Replace(vanished ID, inUse []ID) (add []Block, drop []ID, ok bool) {
	cover, ok := s.lineage.covering(vanished)
	if !ok {
		return nil, nil, false
	}
	reads := map[ID]bool{}
	for _, id := range inUse {
		reads[id] = true
	}
	for _, id := range cover {
		if !reads[id] {
			add = append(add, *s.lineage.listed[id])
			reads[id] = true
		}
	}
	sortBlocks(add)
	for _, id := range inUse {
		by, ok := s.lineage.covering(id)
		if ok && !slices.ContainsFunc(by, func(h ID) bool { return !reads[h] }) {
			drop = append(drop, id)
		}
	}
	return add, drop, true
}

// Version identifies what the tenant's live blocks hold between start and end, end
// not included: two snapshots with one version give one answer. Blocks never change,
// so their ids are enough.
func (s *Snapshot) Version(tenant string, start, end int64) string {
	var ids []ID
	for _, b := range s.Live(tenant, start, end) {
		ids = append(ids, b.ID)
	}
	slices.Sort(ids)
	h := sha256.New()
	for _, id := range ids {
		fmt.Fprintf(h, "%d:%s", len(id), id)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ProblemKind says what is wrong with a block.
type ProblemKind int

// The kinds of problems.
const (
	// Vanished: the object is gone, though the block was neither hidden nor expired. Its
	// entries are lost.
	Vanished ProblemKind = iota
	// Unreadable: the footer is damaged, or not that of the block in the key. The entries
	// are lost unless the object is repaired.
	Unreadable
	// Unavailable: the store did not give the footer. It is tried again.
	Unavailable
)

// String returns the kind for people.
func (k ProblemKind) String() string { return [...]string{"vanished", "unreadable", "unavailable"}[k] }

// Problem is a block that should be there and cannot be read. Answers over its range
// are not complete.
type Problem struct {
	Kind  ProblemKind
	Block Block // what is known of it: of an unreadable one what its key says
	Err   error // nil if it vanished
}

// Key returns the key of the block's object.
func (p Problem) Key() string { return Key(p.Block) }

// Problems returns those of the tenant that may concern entries with
// start <= time < end, ascending by their first time.
func (s *Snapshot) Problems(tenant string, start, end int64) []Problem {
	var out []Problem
	for _, p := range s.problems {
		if p.Block.Tenant == tenant && p.Block.MinTime < end && p.Block.MaxTime >= start {
			out = append(out, p)
		}
	}
	return out
}
