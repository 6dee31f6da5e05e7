package ingester

import (
	"slices"
	"time"
)

// burst is how far apart the first and the last record are at most that times holds as one.
const burst = 100 * time.Millisecond

// times knows when the records of the last tailMemory were begun, to within a burst, so
// that a live tail can be told what came since some time.
type times struct {
	before uint64    // the last record that is not in bursts
	from   time.Time // what was begun at this time or later is in bursts
	bursts []records
}

// records is consecutive ones and when the first and the last of them began.
type records struct {
	first, last uint64
	from, to    time.Time
}

// note is called in the order of the records. The number of one that failed may be given
// to another.
func (t *times) note(lsn uint64, at time.Time) {
	t.before = min(t.before, lsn-1) // it may have failed long after it was begun
	for n := len(t.bursts); n > 0 && t.bursts[n-1].last >= lsn; n-- {
		if b := &t.bursts[n-1]; b.first < lsn {
			b.last = lsn - 1
			break
		}
		t.bursts = t.bursts[:n-1]
	}
	if n := len(t.bursts); n > 0 && at.Sub(t.bursts[n-1].from) < burst {
		t.bursts[n-1].last, t.bursts[n-1].to = lsn, at
		return
	}
	old := 0
	for old < len(t.bursts) && at.Sub(t.bursts[old].to) > tailMemory {
		t.before, t.from = t.bursts[old].last, t.bursts[old].to.Add(1)
		old++
	}
	t.bursts = append(slices.Delete(t.bursts, 0, old), records{lsn, lsn, at, at})
}

// since returns a position behind which is all that was begun at a time or later, and
// whether it is known to be.
func (t *times) since(at time.Time) (position uint64, ok bool) {
	for _, r := range slices.Backward(t.bursts) {
		switch {
		case r.to.Before(at):
			return r.last, true
		case r.from.Before(at):
			return r.first - 1, true
		}
	}
	return t.before, t.before == 0 || !at.Before(t.from)
}
