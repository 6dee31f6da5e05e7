package querier

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/codes"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// Reasons of queries that are not answered.
const (
	// ReasonQueue is the reason of a query that would wait behind too many others.
	ReasonQueue rpcerr.Reason = "TOO_MANY_QUERIES"
	// ReasonCancelled is the reason of a query that CancelQuery ended.
	ReasonCancelled rpcerr.Reason = "QUERY_CANCELLED"
)

// gate lets queries in as the queue says, and knows all that are not over.
type gate struct {
	now     func() time.Time
	newID   func() string
	refused *prometheus.CounterVec
	waits   prometheus.Histogram
	ended   prometheus.Counter

	mu     sync.Mutex // guards what follows, and the fields of active that say so
	queue  *queue
	active map[string]*active
}

// active is a query that is not over.
type active struct {
	id, tenant, kind string
	work             work
	received         time.Time
	waited           time.Duration // once it runs
	stored           float64       // bytes that it covers in blocks, as estimated
	cancel           context.CancelCauseFunc

	ticket    ticket          // guarded by gate.mu
	cancelled bool            // likewise
	progress  engine.Progress // likewise
}

func newGate(l queueLimits, now func() time.Time, newID func() string, reg prometheus.Registerer) *gate {
	f := promauto.With(reg)
	g := &gate{
		now: now, newID: newID, queue: newQueue(l), active: map[string]*active{},
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_querier_refused_queries_total", Help: "Queries refused because too many were waiting, of all tenants (queue) or of theirs (tenant).",
		}, []string{"limit"}),
		waits: f.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_querier_queue_wait_seconds", Help: "How long queries waited for their turn, those included that gave up.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		ended: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_querier_cancelled_queries_total", Help: "Queries that somebody asked to end.",
		}),
	}
	g.refused.WithLabelValues("queue")
	g.refused.WithLabelValues("tenant")
	gauge := func(name, help string, value func() int64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return float64(value())
		})
	}
	gauge("weir_querier_running_queries", "Queries that run.", func() int64 { return int64(g.queue.running[small] + g.queue.running[heavy]) })
	gauge("weir_querier_running_heavy_queries", "Queries that run and are not small.", func() int64 { return int64(g.queue.running[heavy]) })
	gauge("weir_querier_running_cost_bytes", "Estimated cost of the queries that run and are not small.", func() int64 { return g.queue.cost })
	gauge("weir_querier_queued_queries", "Queries that wait for their turn.", func() int64 { return int64(g.queue.waiting[small] + g.queue.waiting[heavy]) })
	return g
}

// enter waits for a query's turn. Whoever gets no error calls leave.
func (g *gate) enter(ctx context.Context, a *active, cost int64, most int) error {
	a.id, a.received = g.newID(), g.now()
	a.ticket = ticket{tenant: a.tenant, cost: cost, started: make(chan struct{})}
	g.mu.Lock()
	started, why := g.queue.enter(&a.ticket, most)
	if why == admitted {
		g.active[a.id] = a
		g.wake(started)
	}
	g.mu.Unlock()
	switch why {
	case tenantsFull:
		g.refused.WithLabelValues("tenant").Inc()
		return tooMany("%d queries of the tenant wait, which is all that may", most)
	case queueFull:
		g.refused.WithLabelValues("queue").Inc()
		return tooMany("%d queries wait, which is all that may", g.queue.limits.waiting)
	}
	err := error(nil)
	select {
	case <-a.ticket.started:
	default:
		select {
		case <-a.ticket.started:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	a.waited = g.now().Sub(a.received)
	g.waits.Observe(a.waited.Seconds())
	if err != nil {
		g.leave(a)
	}
	return err
}

// tooMany is the error of a query that may not wait. Its text is known to clients.
func tooMany(format string, args ...any) error {
	e := rpcerr.New(ReasonQueue, "too many outstanding requests").WithRetry(time.Second).With("limit", fmt.Sprintf(format, args...))
	e.Code = codes.ResourceExhausted
	return e
}

// leave ends a query.
func (g *gate) leave(a *active) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.active, a.id)
	g.wake(g.queue.leave(&a.ticket))
}

// wake lets queries go on whose turn it is. The caller holds the lock.
func (g *gate) wake(started []*ticket) {
	for _, t := range started {
		t.startedAt = g.now()
		close(t.started)
	}
}

// note takes in how far a query is, and what it costs, now that its sources are open.
func (g *gate) note(a *active, p engine.Progress, cost int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.progress = p
	g.wake(g.queue.weigh(&a.ticket, cost))
}

// stop cancels a query of a tenant; nil: there is none of that id.
func (g *gate) stop(tenant, id string) *active {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.active[id]
	if a == nil || a.tenant != tenant {
		return nil
	}
	if !a.cancelled {
		a.cancelled = true
		g.ended.Inc()
		e := rpcerr.New(ReasonCancelled, "the query was cancelled by request (%s)", id)
		e.Code = codes.Aborted
		a.cancel(e)
	}
	return a
}
