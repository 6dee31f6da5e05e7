package ring

import (
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

// Table is the set of member records, the newest of each name. It is an
// immutable value that may be shared; the zero Table is empty.
//
// Merging is commutative, associative and idempotent: tables that exchanged
// the same records in any order are equal.
type Table struct {
	members []Member // by name
	digest  uint64
}

// newTable takes ownership of members, which are sorted by unique name.
func newTable(members []Member) Table {
	t := Table{members: members}
	var buf [MaxRecordSize + 2]byte
	for i := range members {
		// Sums do not depend on order, so that a digest could be kept up
		// record by record.
		t.digest += xxhash.Sum64(appendMember(buf[:0], &members[i]))
	}
	return t
}

// Len returns the number of records, tombstones included.
func (t Table) Len() int { return len(t.members) }

// Digest identifies the table's content: tables with equal digests are equal.
// The empty table's is 0. Answers carry it, so that who judges them can tell
// that its own table is another one.
func (t Table) Digest() uint64 { return t.digest }

// All yields the records by name, tombstones included. They must not be changed.
func (t Table) All() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for i := range t.members {
			if !yield(&t.members[i]) {
				return
			}
		}
	}
}

// Get returns the record of a name.
func (t Table) Get(name string) (Member, bool) {
	i, ok := t.find(name)
	if !ok {
		return Member{}, false
	}
	return t.members[i], true
}

func (t Table) find(name string) (int, bool) {
	return slices.BinarySearchFunc(t.members, name, func(m Member, name string) int {
		return strings.Compare(m.Name, name)
	})
}

// Merge returns the union of both tables, the newest record of each name, and
// the records that are in it but not in t. If the union has more than
// MaxMembers names the error is ErrFull and the result is t.
func (t Table) Merge(o Table) (Table, []Member, error) {
	if t.digest == o.digest || len(o.members) == 0 {
		return t, nil, nil
	}
	merged := make([]Member, 0, max(len(t.members), len(o.members)))
	var changed []Member
	a, b := t.members, o.members
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			merged, a = append(merged, a[0]), a[1:]
		case len(a) == 0 || a[0].Name > b[0].Name:
			merged, changed, b = append(merged, b[0]), append(changed, b[0]), b[1:]
		default:
			if newer(&b[0], &a[0]) > 0 {
				merged, changed = append(merged, b[0]), append(changed, b[0])
			} else {
				merged = append(merged, a[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	if len(merged) > MaxMembers {
		return t, nil, ErrFull
	}
	if len(changed) == 0 {
		return t, nil, nil
	}
	return newTable(merged), changed, nil
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

// Without returns the table less the record of a name. It is no part of the
// merging: a record dropped here comes back from any table that has it.
func (t Table) Without(name string) Table {
	i, ok := t.find(name)
	if !ok {
		return t
	}
	return newTable(slices.Concat(t.members[:i], t.members[i+1:]))
}

// Assert returns self with a version that wins over the table's record of its
// name, to be Put by the process that owns the name. If the table's record is
// of another incarnation it is returned as replaced: that incarnation's data is
// not held by self. An ingester whose own incarnation was forgotten gets
// ErrForgotten.
func (t Table) Assert(self Member) (asserted Member, replaced *Member, err error) {
	old, ok := t.Get(self.Name)
	if !ok {
		self.Version = max(self.Version, 1)
		return self, nil, nil
	}
	if old.Incarnation != self.Incarnation {
		replaced = &old
	} else if old.State == Forgotten && (self.Stores() || old.Stores()) {
		return Member{}, nil, ErrForgotten
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
