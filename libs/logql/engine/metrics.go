package engine

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	queries  *prometheus.CounterVec
	duration prometheus.Histogram
	bytes    prometheus.Counter
	entries  prometheus.Counter
	skipped  prometheus.Counter
	memory   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_engine_queries_total", Help: "Queries that ended, by outcome.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_engine_query_duration_seconds", Help: "How long queries took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_engine_read_bytes_total", Help: "Bytes of lines and metadata that queries read.",
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_engine_read_entries_total", Help: "Entries that queries read.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_engine_skipped_runs_total", Help: "Runs of rows that were not read because an equal copy was.",
		}),
		memory: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_engine_query_memory_bytes", Help: "The most that queries held at once.",
			Buckets: prometheus.ExponentialBuckets(64<<10, 8, 6),
		}),
	}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "weir_engine_busy_workers", Help: "Goroutines that help queries, in the whole process.",
		}, func() float64 { return float64(helpers.busy.Load()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "weir_engine_max_workers", Help: "How many goroutines may help queries, in the whole process.",
		}, func() float64 { return float64(helpers.limit.Load()) }))
		reg.MustRegister(m.queries, m.duration, m.bytes, m.entries, m.skipped, m.memory)
	}
	return m
}

func (m *metrics) observe(q *query, d time.Duration, err error) {
	outcome := "error"
	switch {
	case err == nil:
		outcome = "ok"
	case errors.Is(err, context.Canceled):
		outcome = "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		outcome = "timeout"
	case IsQueryError(err):
		outcome = "refused"
	case errors.Is(err, ErrIncomplete):
		outcome = "incomplete"
	}
	m.queries.WithLabelValues(outcome).Inc()
	m.duration.Observe(d.Seconds())
	m.bytes.Add(float64(q.stats.BytesRead))
	m.entries.Add(float64(q.stats.RowsRead))
	m.skipped.Add(float64(q.skipped))
	m.memory.Observe(float64(q.mem.Peak()))
}
