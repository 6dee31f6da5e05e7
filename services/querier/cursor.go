package querier

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// position is a place in the append order of one incarnation of an ingester.
type position struct {
	Incarnation string `json:"i"`
	Position    uint64 `json:"p"`
}

// tailCursor is where a tail can go on: the position at each ingester, and the
// entries that were sent and may still come from another replica.
type tailCursor struct {
	Version   int                 `json:"v"`
	Query     uint64              `json:"q"` // hash of the query's text
	Positions map[string]position `json:"a"` // by ingester
	Pending   []uint64            `json:"s,omitempty"`
}

const (
	cursorVersion = 1
	maxCursor     = 256 << 10
	// maxPending is how many entries a cursor names. Beyond that an entry that was
	// sent may be sent again after a resumption.
	maxPending = 4096
)

func queryHash(q *syntax.LogSelector) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(q.String())) // never fails
	return h.Sum64()
}

func encodeCursor(q *syntax.LogSelector, positions map[string]position, pending []uint64) string {
	b, err := json.Marshal(tailCursor{Version: cursorVersion, Query: queryHash(q), Positions: positions, Pending: pending})
	if err != nil {
		return "" // cannot be: numbers and strings only
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor returns the cursor of an earlier tail of the same query, or an empty
// one for an empty text.
func decodeCursor(text string, q *syntax.LogSelector) (*tailCursor, error) {
	c := &tailCursor{Positions: map[string]position{}}
	if text == "" {
		return c, nil
	}
	bad := rpcerr.New(ReasonCursor, "the cursor is not one of this query")
	bad.Code = 3 // INVALID_ARGUMENT
	if len(text) > maxCursor {
		return nil, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, bad
	}
	if err := json.Unmarshal(b, c); err != nil || c.Version != cursorVersion || c.Query != queryHash(q) || c.Positions == nil || len(c.Pending) > maxPending {
		return nil, bad
	}
	return c, nil
}

// seen knows which entries a tail has sent, so that the copies of replicas are
// sent once. What was seen is remembered for one to two periods, which is longer
// than a replica's write may take.
type seen struct {
	new, old map[uint64]*sighting
	waiting  map[uint64]struct{} // those of both that not all ingesters have sent
	since    time.Time
	history  map[uint64]bool // content of the entries sent as history
}

// sighting is an entry that was sent.
type sighting struct {
	from []string // ingesters that have sent it
}

// seenPeriod is above the deadline of a replica's write with a margin.
const seenPeriod = 15 * time.Second

// maxSeen bounds the entries of one period.
const maxSeen = 500_000

func newSeen(pending []uint64) *seen {
	s := &seen{new: map[uint64]*sighting{}, old: map[uint64]*sighting{}, waiting: map[uint64]struct{}{}, history: map[uint64]bool{}}
	for _, h := range pending {
		s.new[h] = &sighting{}
		s.waiting[h] = struct{}{}
	}
	return s
}

// first notes an entry that an ingester sent and returns whether none has before.
// holders is how many ingesters hold a stream.
func (s *seen) first(key uint64, ingester string, holders int, now time.Time) bool {
	if holders < 2 && len(s.new) == 0 && len(s.old) == 0 {
		return true // no other can have it
	}
	s.age(now)
	known := s.new[key]
	if known == nil {
		known = s.old[key]
	}
	if known == nil {
		if holders > 1 {
			s.new[key] = &sighting{from: []string{ingester}}
			s.waiting[key] = struct{}{}
		}
		return true
	}
	if !slices.Contains(known.from, ingester) {
		known.from = append(known.from, ingester)
	}
	if len(known.from) >= holders {
		delete(s.waiting, key)
	}
	return false
}

// age begins a new period when it is time.
func (s *seen) age(now time.Time) {
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) >= seenPeriod || len(s.new) >= maxSeen {
		for key := range s.old {
			delete(s.waiting, key)
		}
		s.old, s.new, s.since = s.new, map[uint64]*sighting{}, now
		clear(s.history)
	}
}

// pending returns the entries that a replica may still send.
func (s *seen) pending() []uint64 {
	out := make([]uint64, 0, min(len(s.waiting), maxPending))
	for key := range s.waiting {
		if len(out) == maxPending {
			break
		}
		out = append(out, key)
	}
	return out
}

// shown notes an entry that was sent as history, and wasShown tells whether one
// was: it comes again if it was taken in while history was read.
func (s *seen) shown(key uint64)         { s.history[key] = true }
func (s *seen) wasShown(key uint64) bool { return s.history[key] }

// contentKey hashes an entry as it is shown.
func contentKey(t int64, labels, meta, parsed model.Labels, line []byte) uint64 {
	h := fnv.New64a()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t))
	_, _ = h.Write(b[:]) // never fails, as those below
	for _, set := range []model.Labels{labels, meta, parsed} {
		_, _ = h.Write(set.AppendText(nil))
	}
	_, _ = h.Write(line)
	return h.Sum64()
}
