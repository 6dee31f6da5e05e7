package querier

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"math/bits"
	"time"

	"github.com/weir-logs/weir/libs/model"
)

const (
	// writePeriod is above the time that a replica's write may take, with a margin: what
	// has been sent by one ingester has been appended by all that hold it after so long,
	// or never will be.
	writePeriod = 15 * time.Second
	// spanPeriod is how long entries are taken for one span.
	spanPeriod = 15 * time.Second
	// rememberFor is how long entries are remembered at most: as long as a cursor is good.
	rememberFor = 15 * time.Minute
	// maxSeen bounds the entries that are remembered. Beyond that an entry that an
	// ingester was long about to send, as it was stopped, may come again.
	maxSeen = 1_000_000
)

// seen knows which entries a tail has sent, so that the copies of replicas are sent once.
// An entry is remembered until all ingesters have sent what they had appended when no copy
// of it could be stored any more: those that are stopped for a while are waited for. It is
// pure; times are by one even clock.
type seen struct {
	from    map[uint64]uint64   // which ingesters have sent an entry, as a set of their numbers
	waiting map[uint64]struct{} // those of from that not all holders have sent
	spans   []*span             // the oldest first; the last takes what comes
	number  map[string]int      // of an ingester
	told    map[string]time.Time
	most    int             // maxSeen, less where tails remember too much together
	room    int             // of from: the most that were in it since it was made
	held    int64           // bytes, as counted in the process
	oldest  []uint64        // of waiting, where there are more than maxPending, as of late
	history map[uint64]bool // content of the entries sent as history
	since   time.Time       // when they had been read
}

// span is entries that were first sent within some time.
type span struct {
	from, to time.Time
	keys     []uint64
}

func newSeen(pending []uint64, now time.Time) *seen {
	s := &seen{
		from: map[uint64]uint64{}, waiting: map[uint64]struct{}{}, number: map[string]int{}, told: map[string]time.Time{},
		spans: []*span{{from: now, to: now}}, most: maxSeen, history: map[uint64]bool{}, since: now,
	}
	for _, key := range pending {
		s.add(key, 0, now)
	}
	return s
}

func (s *seen) add(key, from uint64, now time.Time) {
	s.from[key] = from
	s.room = max(s.room, len(s.from))
	s.waiting[key] = struct{}{}
	last := s.spans[len(s.spans)-1]
	last.keys, last.to = append(last.keys, key), now
}

// first notes an entry that an ingester sent and returns whether none has before.
// holders is how many ingesters hold a stream.
func (s *seen) first(key uint64, ingester string, holders int, now time.Time) bool {
	if holders < 2 && len(s.from) == 0 {
		return true // no other can have it
	}
	n, ok := s.number[ingester]
	if !ok {
		n = len(s.number)
		s.number[ingester] = n
	}
	bit := uint64(1) << (n % 64) // two that share one make an entry wait for longer
	known, ok := s.from[key]
	if !ok {
		if holders > 1 {
			s.add(key, bit, now)
		}
		return true
	}
	s.from[key] = known | bit
	if bits.OnesCount64(known|bit) >= holders {
		delete(s.waiting, key)
	}
	return false
}

// complete notes that an ingester has sent all that it had appended at a time.
func (s *seen) complete(ingester string, at time.Time) {
	if at.After(s.told[ingester]) {
		s.told[ingester] = at
	}
}

// age begins a new span when it is time, and forgets those that none of the ingesters has
// anything of to send. It returns how many entries it forgot that some may yet send.
func (s *seen) age(now time.Time, ingesters []string) (forgotten int) {
	// The last span is not forgotten: it must not be what there is room for in all.
	if last := s.spans[len(s.spans)-1]; now.Sub(last.from) >= spanPeriod || len(last.keys) > s.most/4 {
		s.spans = append(s.spans, &span{from: now, to: now})
	}
	told := s.toldBy(now, ingesters)
	if now.Sub(s.since) >= rememberFor || told.Sub(s.since) >= writePeriod {
		clear(s.history)
	}
	for len(s.spans) > 1 {
		first := s.spans[0]
		if len(s.from) <= s.most && now.Sub(first.to) < rememberFor && told.Sub(first.to) < writePeriod {
			break
		}
		early := now.Sub(first.to) < rememberFor && told.Sub(first.to) < writePeriod
		for _, key := range first.keys {
			if _, waits := s.waiting[key]; waits && early {
				forgotten++
			}
			delete(s.from, key)
			delete(s.waiting, key)
		}
		s.spans[0] = nil
		s.spans = s.spans[1:]
	}
	s.shrink()
	s.oldest = s.oldest[:0]
	if len(s.waiting) <= maxPending {
		return forgotten
	}
	// The oldest are what an ingester that was stopped is about to send.
	for _, sp := range s.spans {
		for _, key := range sp.keys {
			if _, ok := s.waiting[key]; ok {
				if s.oldest = append(s.oldest, key); len(s.oldest) == maxPending {
					return forgotten
				}
			}
		}
	}
	return forgotten
}

// toldBy returns a time, now at the latest, when all that ingesters had appended has been
// sent.
func (s *seen) toldBy(now time.Time, ingesters []string) time.Time {
	for _, name := range ingesters {
		if at := s.told[name]; at.Before(now) {
			now = at
		}
	}
	return now
}

// shrink gives back memory that maps keep of what is gone.
func (s *seen) shrink() {
	keep := s.room / 4
	if s.most < maxSeen {
		keep = s.room - s.room/8 // others need it
	}
	if s.room <= 1024 || len(s.from) > keep {
		return
	}
	from, waiting := make(map[uint64]uint64, len(s.from)), make(map[uint64]struct{}, len(s.waiting))
	maps.Insert(from, maps.All(s.from))
	maps.Insert(waiting, maps.All(s.waiting))
	s.from, s.waiting, s.room = from, waiting, len(from)
}

// size is about the bytes that are held.
func (s *seen) size() int64 { return seenBytes * int64(s.room+len(s.history)/4) }

// pending returns the entries that a replica may still send: the oldest of them where
// there are more than maxPending.
func (s *seen) pending() []uint64 {
	out := make([]uint64, 0, min(len(s.waiting), maxPending))
	if len(s.waiting) > maxPending {
		out = append(out, s.oldest...)
	}
	if len(out) > 0 {
		return out
	}
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
