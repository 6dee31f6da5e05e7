package distributor

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/ring"
)

const (
	// tellEvery is how often distributors tell each other what tenants send them.
	tellEvery = time.Second
	// tellAge is after how long what another has told means nothing.
	tellAge = 10 * time.Second
	// maxTold is how many tenants a message holds: those that send most.
	maxTold = 80
	// maxFlows bounds the tenants that are counted. One beyond has an equal part at least.
	maxFlows = 50_000
	// smoothing is the weight of the last second in a rate.
	smoothing = 0.3
	// negligible is a rate that counts as none, in bytes per second.
	negligible = 1.0
)

// Peers carries messages between distributors.
type Peers interface {
	Tell(roles ring.Role, message []byte)
	Hear(f func(sender string, message []byte))
}

// shares divides tenants' rates between distributors by what each is sent. A tenant
// that sends to one only has all of its rate there; each distributor lets through an
// equal part at least, so that traffic that comes anew is not refused.
type shares struct {
	now func() time.Time

	mu     sync.Mutex // guards what follows
	own    map[string]*flow
	others map[string]told // by distributor
}

// flow is what a tenant sends here, refused or not.
type flow struct {
	bytes int64   // since the last tick
	rate  float64 // bytes per second
}

type told struct {
	at    time.Time
	rates map[uint64]float64 // by hash of the tenant
}

func newShares(now func() time.Time) *shares {
	return &shares{now: now, own: map[string]*flow{}, others: map[string]told{}}
}

// of counts n bytes of a tenant and returns which part of its rate this distributor may
// let through, of so many.
func (s *shares) of(tenant string, n int64, distributors int) float64 {
	if distributors <= 1 {
		return 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.own[tenant]
	if f == nil {
		f = &flow{}
		if len(s.own) < maxFlows {
			s.own[tenant] = f
		}
	}
	f.bytes += n
	sum, now, hash := 0.0, s.now(), xxhash.Sum64String(tenant)
	for _, o := range s.others {
		if now.Sub(o.at) < tellAge {
			sum += o.rates[hash]
		}
	}
	equal := 1 / float64(distributors)
	own := max(f.rate, float64(f.bytes))
	if sum < negligible {
		return 1
	}
	return max(equal, own/(own+sum))
}

// tick ends a second and returns what there is to tell of it.
func (s *shares) tick() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	type entry struct {
		hash uint64
		rate float64
	}
	var top []entry
	for tenant, f := range s.own {
		f.rate = (1-smoothing)*f.rate + smoothing*float64(f.bytes)/tellEvery.Seconds()
		f.bytes = 0
		if f.rate < negligible {
			delete(s.own, tenant)
			continue
		}
		top = append(top, entry{xxhash.Sum64String(tenant), f.rate})
	}
	slices.SortFunc(top, func(a, b entry) int { return cmp.Compare(b.rate, a.rate) })
	var b []byte
	for _, e := range top[:min(len(top), maxTold)] {
		b = binary.LittleEndian.AppendUint64(b, e.hash)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(e.rate)))
	}
	now := s.now()
	for name, o := range s.others {
		if now.Sub(o.at) >= tellAge {
			delete(s.others, name)
		}
	}
	return b
}

// maxTellers bounds the distributors that are listened to.
const maxTellers = 1024

// hear takes in what another distributor has told.
func (s *shares) hear(sender string, b []byte) {
	if len(b)%12 != 0 || len(b) > 12*maxTold {
		return
	}
	rates := make(map[uint64]float64, len(b)/12)
	for ; len(b) > 0; b = b[12:] {
		r := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[8:])))
		if r > 0 && !math.IsInf(r, 0) { // nor NaN
			rates[binary.LittleEndian.Uint64(b)] = r
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.others[sender]; ok || len(s.others) < maxTellers {
		s.others[sender] = told{s.now(), rates}
	}
}

// run tells the others until ctx ends.
func (s *shares) run(ctx context.Context, p Peers) {
	p.Hear(s.hear)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.Tell(ring.Distributor, s.tick())
		case <-ctx.Done():
			return
		}
	}
}
