package querier

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/logql/engine/remote"
)

const (
	// openAfterLeast and openAfterMost bound how long an ingester that opens is waited
	// for when the others suffice: three times what one in twenty takes.
	openAfterLeast, openAfterMost = 500 * time.Millisecond, 2 * time.Second
	// readAfter is the same for one that reads, which says something every second while
	// it is at work.
	readAfter = 2500 * time.Millisecond
	// readShare is how many readings may be begun again elsewhere for each that is opened,
	// and readBurst how many at once.
	readShare, readBurst = 0.05, 10
)

// hedger decides which ingesters are not waited for any longer: those that are slow where
// their co-owners have answered, which have all that was acknowledged. What such a one was
// reading is read from a co-owner that has the same rows.
type hedger struct {
	given   *prometheus.CounterVec // by stage
	refused prometheus.Counter

	mu     sync.Mutex // guards what follows
	slow   time.Duration
	budget float64
}

func newHedger(reg prometheus.Registerer) *hedger {
	f := promauto.With(reg)
	h := &hedger{
		slow: openAfterLeast / 3, budget: readBurst,
		given: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_querier_hedges_total", Help: "Ingesters that were slow and not waited for any longer, since the answer was complete without: while they opened, or while they read, which a co-owner then did instead."}, []string{"stage"}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_refused_hedges_total", Help: "Times that a slow ingester was waited for since too much was being read again elsewhere."}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_querier_slow_open_seconds", Help: "How long all but the slowest twentieth of ingesters take to open for a query, as estimated."},
		func() float64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.slow.Seconds()
		})
	return h
}

// opened takes notice of how long an ingester took. The estimate goes up by much for each
// that took longer and down by little for each that did not, so that it rests where one in
// twenty takes longer.
func (h *hedger) opened(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.budget = min(readBurst, h.budget+readShare)
	if took > h.slow {
		h.slow += h.slow / 10
	} else {
		h.slow -= h.slow / 190
	}
	h.slow = min(max(h.slow, time.Millisecond), openAfterMost)
}

func (h *hedger) openAfter() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return min(max(3*h.slow, openAfterLeast), openAfterMost)
}

// take takes one from the budget of readings that are begun again.
func (h *hedger) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget < 1 {
		return false
	}
	h.budget--
	return true
}

// hedge is one ingester of a query. It implements remote.Hedge.
type hedge struct {
	*hedger
	asked *asked
	name  string
}

var _ remote.Hedge = hedge{}

// After implements remote.Hedge.
func (h hedge) After(opening bool) time.Duration {
	if opening {
		return h.openAfter()
	}
	return readAfter
}

// Give implements remote.Hedge. While ingesters open, all that have not yet count as
// missing: so nothing ends the wait for one but that all others it matters with answered.
func (h hedge) Give(opening bool) bool {
	a := h.asked
	a.giving.Lock()
	defer a.giving.Unlock()
	missing := []string{h.name}
	a.mu.Lock()
	for name := range a.slow {
		missing = append(missing, name)
	}
	for name := range a.failed {
		missing = append(missing, name)
	}
	for name := range a.opening {
		missing = append(missing, name)
	}
	a.mu.Unlock()
	if a.complete(missing) != nil {
		return false
	}
	stage := "open"
	if !opening {
		stage = "read"
		if !h.take() {
			h.refused.Inc()
			return false
		}
	}
	h.given.WithLabelValues(stage).Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow[h.name] = true
	return true
}

// begin notes that an ingester is being opened, and returns the context to do it with and
// what to call when it is, with its error. It is false if it was slow before.
func (a *asked) begin(ctx context.Context, name string) (_ context.Context, done func(error), ok bool) {
	if a.hedger == nil {
		return ctx, func(error) {}, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.slow[name] {
		return nil, nil, false
	}
	a.opening[name]++
	began := time.Now()
	return remote.WithHedge(ctx, hedge{a.hedger, a, name}), func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.opening[name]--; a.opening[name] == 0 {
			delete(a.opening, name)
		}
		if err != nil {
			a.failed[name] = true
			return
		}
		delete(a.failed, name)
		a.hedger.opened(time.Since(began))
	}, true
}
