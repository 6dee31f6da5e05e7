package ring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

var (
	// ErrFull says that a table has no room for another name.
	ErrFull = fmt.Errorf("ring: the member table is full (%d members)", MaxMembers)
	// ErrForgotten says that an ingester's data directory was given up.
	ErrForgotten = errors.New("ring: this data directory was forgotten by the cluster and may only be imported")
	// ErrUnknownMember says that the table has no live record of a name.
	ErrUnknownMember = errors.New("ring: unknown member")
)

// Table is the set of member records, the newest of each incarnation of a name.
// Of the incarnations of a name one is current, the newest; the others are past.
// A past incarnation that stored something is kept: what only it held is missing
// until that has healed or was given up (see Gaps). A Table is an immutable value
// that may be shared; the zero Table is empty.
//
// Merging is commutative, associative and idempotent: tables that exchanged
// the same records in any order are equal.
type Table struct {
	members []Member // the current ones, by name
	past    []Member // by name and incarnation
	digest  uint64
}

// newTable takes ownership of records, which are sorted by name and incarnation
// and of which none is there twice.
func newTable(records []Member) Table {
	t := Table{}
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].Name == records[0].Name {
			n++
		}
		current := -1
		for i := range n {
			if m := &records[i]; !m.Noted() && (current < 0 || newer(m, &records[current]) > 0) {
				current = i
			}
		}
		for i := range n {
			switch m := &records[i]; {
			case i == current:
				t.members = append(t.members, *m)
			case !m.ephemeral():
				t.past = append(t.past, *m)
			}
		}
		records = records[n:]
	}
	var buf [MaxRecordSize + 2]byte
	for _, list := range [][]Member{t.members, t.past} {
		for i := range list {
			// Sums do not depend on order, so that a digest could be kept up
			// record by record.
			t.digest += xxhash.Sum64(appendMember(buf[:0], &list[i]))
		}
	}
	return t
}

// records returns all records by name and incarnation.
func (t Table) records() []Member {
	if len(t.past) == 0 {
		return t.members
	}
	out := slices.Concat(t.members, t.past)
	slices.SortFunc(out, func(a, b Member) int { return compareKeys(&a, &b) })
	return out
}

func compareKeys(a, b *Member) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Incarnation, b.Incarnation))
}

// Len returns the number of records, tombstones and past incarnations included.
func (t Table) Len() int { return len(t.members) + len(t.past) }

// Digest identifies the table's content: tables with equal digests are equal.
// The empty table's is 0. Answers carry it, so that who judges them can tell
// that its own table is another one.
func (t Table) Digest() uint64 { return t.digest }

// All yields the current records by name, tombstones included. They must not be
// changed.
func (t Table) All() iter.Seq[*Member] { return each(t.members) }

// Past yields the records of past incarnations and noted gaps by name and
// incarnation, tombstones included. They must not be changed.
func (t Table) Past() iter.Seq[*Member] { return each(t.past) }

func each(list []Member) iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

// Get returns the current record of a name.
func (t Table) Get(name string) (Member, bool) {
	i, ok := t.find(name)
	if !ok {
		return Member{}, false
	}
	return t.members[i], true
}

// Incarnation returns the record of one incarnation of a name, or of a noted gap.
func (t Table) Incarnation(name, incarnation string) (Member, bool) {
	if m, ok := t.Get(name); ok && m.Incarnation == incarnation {
		return m, true
	}
	key := Member{Name: name, Incarnation: incarnation}
	i, ok := slices.BinarySearchFunc(t.past, key, func(a, b Member) int { return compareKeys(&a, &b) })
	if !ok {
		return Member{}, false
	}
	return t.past[i], true
}

func (t Table) find(name string) (int, bool) {
	return slices.BinarySearchFunc(t.members, name, func(m Member, name string) int {
		return strings.Compare(m.Name, name)
	})
}

// Merge returns the union of both tables, the newest record of each incarnation,
// and the records that are in it but not in t. If the union has more than
// MaxMembers records the error is ErrFull and the result is t.
func (t Table) Merge(o Table) (Table, []Member, error) {
	if t.digest == o.digest || o.Len() == 0 {
		return t, nil, nil
	}
	merged := make([]Member, 0, max(t.Len(), o.Len()))
	a, b := t.records(), o.records()
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && compareKeys(&a[0], &b[0]) < 0:
			merged, a = append(merged, a[0]), a[1:]
		case len(a) == 0 || compareKeys(&a[0], &b[0]) > 0:
			merged, b = append(merged, b[0]), b[1:]
		default:
			if newer(&b[0], &a[0]) > 0 {
				merged = append(merged, b[0])
			} else {
				merged = append(merged, a[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	out := newTable(merged)
	if out.Len() > MaxMembers {
		return t, nil, ErrFull
	}
	if out.digest == t.digest {
		return t, nil, nil
	}
	var changed []Member
	for _, m := range out.records() {
		if old, ok := t.Incarnation(m.Name, m.Incarnation); !ok || old != m {
			changed = append(changed, m)
		}
	}
	return out, changed, nil
}

// Put merges one record, which must be valid, and reports whether the table
// took it: false means that it has the same or a newer one.
func (t Table) Put(m Member) (Table, bool, error) {
	if err := m.Validate(); err != nil {
		return t, false, err
	}
	out, changed, err := t.Merge(newTable([]Member{m}))
	return out, len(changed) > 0, err
}

// Without returns the table less the current record of a name. It is no part of
// the merging: a record dropped here comes back from any table that has it.
func (t Table) Without(name string) Table {
	m, ok := t.Get(name)
	if !ok {
		return t
	}
	return newTable(slices.DeleteFunc(slices.Clone(t.records()), func(r Member) bool { return r == m }))
}

// WithoutIncarnation returns the table less one record. Like Without it is no part of the merging.
func (t Table) WithoutIncarnation(name, incarnation string) Table {
	return newTable(slices.DeleteFunc(slices.Clone(t.records()), func(r Member) bool {
		return r.Name == name && r.Incarnation == incarnation
	}))
}

// Only returns the table of the records of one name.
func (t Table) Only(name string) Table {
	return newTable(slices.DeleteFunc(slices.Clone(t.records()), func(r Member) bool { return r.Name != name }))
}

// Assert returns self with a version that wins over the table's record of its
// name, to be Put by the process that owns the name. If the table's record is
// of another incarnation it is returned as replaced: that incarnation's data is
// not held by self. An ingester whose own incarnation was forgotten gets
// ErrForgotten.
func (t Table) Assert(self Member) (asserted Member, replaced *Member, err error) {
	if own, ok := t.Incarnation(self.Name, self.Incarnation); ok && own.State == Forgotten && (self.Stores() || own.Stores()) {
		return Member{}, nil, ErrForgotten
	}
	old, ok := t.Get(self.Name)
	if !ok {
		self.Version = max(self.Version, 1)
		return self, nil, nil
	}
	if old.Incarnation != self.Incarnation {
		replaced = &old
	}
	self.Version = max(self.Version, old.Version+1)
	return self, replaced, nil
}

// Forget returns the table with the member made a tombstone, at a time that is
// for people. It does not ask whether that is safe: the caller does.
func (t Table) Forget(name string, millis int64) (Table, Member, error) {
	m, ok := t.Get(name)
	if !ok || m.State == Forgotten {
		return t, Member{}, fmt.Errorf("%w: %q", ErrUnknownMember, name)
	}
	m.State, m.ChangedMillis = Forgotten, millis
	m.Version++
	t, _, err := t.Put(m)
	return t, m, err
}

// CommonVersion returns the highest version that every member still in the
// cluster reads: what writers may write. It is false if there is none, or no
// member.
func (t Table) CommonVersion() (uint32, bool) {
	low, high, any := uint32(0), ^uint32(0), false
	for i := range t.members {
		if m := &t.members[i]; !m.State.Gone() {
			low, high, any = max(low, m.MinVersion), min(high, m.MaxVersion), true
		}
	}
	if !any || low > high {
		return 0, false
	}
	return high, true
}
