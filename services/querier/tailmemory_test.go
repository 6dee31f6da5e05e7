package querier

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// What tails remember is bounded over all of them: those of more than their part forget,
// those of less do not, no tail begins at the limit, and all is given back.
func TestTailMemory(t *testing.T) {
	const entries = 20_000 // that there is room for
	reg := prometheus.NewRegistry()
	m := newTailMemory(entries*seenBytes, promauto.With(reg))
	now, all := time.Unix(1000, 0), []string{"one", "two"}
	var tails []*seen
	for range 4 {
		if !m.join() {
			t.Fatal("there is room")
		}
		tails = append(tails, newSeen(nil, now))
	}
	send := func(s *seen, n int) {
		for range n / 500 {
			for range 500 {
				s.first(uint64(len(s.from)+1)<<32+uint64(now.UnixNano()), "one", 2, now)
			}
			now = now.Add(time.Second)
			m.age(s, func() int { return s.age(now, all) })
		}
	}
	for _, s := range tails[1:] {
		send(s, 1000)
	}
	if !m.join() {
		t.Fatal("there is room")
	}
	m.leave()
	send(tails[0], 2*entries)
	for range 5 { // of spanPeriod
		now = now.Add(spanPeriod)
		m.age(tails[0], func() int { return tails[0].age(now, all) })
	}
	if n := len(tails[0].from); n > entries {
		t.Errorf("the one of many remembers %d", n)
	}
	for i, s := range tails[1:] {
		if m.age(s, func() int { return s.age(now, all) }); len(s.from) != 1000 {
			t.Errorf("tail %d remembers %d of 1000", i+1, len(s.from))
		}
	}
	if m.used > m.limit || testutil.ToFloat64(m.bytes) != float64(m.used) || testutil.ToFloat64(m.forgotten) == 0 {
		t.Errorf("%d of %d bytes, %v told, %v entries forgotten", m.used, m.limit, testutil.ToFloat64(m.bytes), testutil.ToFloat64(m.forgotten))
	}
	// None begins at the limit.
	m.resize(m.limit)
	s := &Service{tailMemory: m, tails: map[string]int{}, open: prometheus.NewGauge(prometheus.GaugeOpts{}), tooMany: prometheus.NewCounter(prometheus.CounterOpts{})}
	sc := scope{tenant: "a", limits: limits.Limits{MaxTails: 10}}
	if err := s.takeTail(sc); rpcerr.ReasonOf(err) != rpcerr.Overloaded || !strings.Contains(err.Error(), "remember") || testutil.ToFloat64(s.tooMany) != 1 || len(s.tails) != 0 {
		t.Errorf("got %v", err)
	}
	m.resize(-m.limit)
	if err := s.takeTail(sc); err != nil {
		t.Error(err)
	}
	m.leave()
	for _, s := range tails {
		m.release(s)
	}
	if m.used != 0 || m.tails != 0 {
		t.Errorf("%d bytes of %d tails are held", m.used, m.tails)
	}
}

// Tails that are a little over their part give back what they are over, so that others
// may begin although they go on remembering as much as they may.
func TestTailMemoryOfSome(t *testing.T) {
	const entries = 20_000
	m := newTailMemory(entries*seenBytes, promauto.With(prometheus.NewRegistry()))
	now, all := time.Unix(1000, 0), []string{"one", "two"}
	var tails []*seen
	for range 2 {
		m.join()
		tails = append(tails, newSeen(nil, now))
	}
	next, over := uint64(0), false
	send := func(n int) {
		for _, s := range tails {
			for range n {
				next++
				s.first(next, "one", 2, now)
			}
			now = now.Add(time.Second)
			m.age(s, func() int { return s.age(now, all) })
			over = over || m.used > m.limit
		}
	}
	for range 30 {
		send(entries / 40)
	}
	if !over {
		t.Fatal("there was room for all")
	}
	for range 3 {
		send(1)
	}
	if m.used > m.limit || !m.join() {
		t.Errorf("%d of %d bytes are held, by %d and %d entries", m.used, m.limit, len(tails[0].from), len(tails[1].from))
	}
}
