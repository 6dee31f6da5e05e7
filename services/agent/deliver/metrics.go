package deliver

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// Metrics are those of all that is delivered.
type Metrics struct {
	batches, accepted, sentBytes, refused, retries, dropped *prometheus.CounterVec
	pending, oldest                                         *prometheus.GaugeVec
	queueBytes                                              prometheus.Gauge
	queueErrors, full, saveErrors, damaged                  prometheus.Counter
}

// NewMetrics registers them with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauges := func(name, help string) *prometheus.GaugeVec {
		return with.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"client"})
	}
	return &Metrics{
		batches:     vec("weir_agent_sent_batches_total", "Batches that the server has taken.", "client"),
		accepted:    vec("weir_agent_sent_entries_total", "Entries that the server has stored, repetitions included.", "client"),
		sentBytes:   vec("weir_agent_sent_bytes_total", "Bytes of requests that the server has taken, before compression.", "client"),
		refused:     vec("weir_agent_refused_entries_total", "Entries that the server has refused for good.", "client", "reason"),
		retries:     vec("weir_agent_retries_total", "Attempts to push that failed and are repeated, by gRPC code or HTTP status.", "client", "code"),
		dropped:     vec("weir_agent_dropped_entries_total", "Entries that the agent has dropped.", "client", "reason"),
		pending:     gauges("weir_agent_pending_batches", "Batches that wait for their acknowledgement."),
		oldest:      gauges("weir_agent_oldest_batch_seconds", "How old the batch is that is being sent."),
		queueBytes:  with.NewGauge(prometheus.GaugeOpts{Name: "weir_agent_queue_bytes", Help: "Size of the queue on disk."}),
		queueErrors: counter("weir_agent_queue_errors_total", "Failed attempts to write the queue, or to open it for reading."),
		full:        counter("weir_agent_queue_full_total", "Attempts to add to a queue that was full."),
		saveErrors:  counter("weir_agent_positions_errors_total", "Failed attempts to save the positions."),
		damaged:     counter("weir_agent_damaged_records_total", "Records of the queue, and positions files, that could not be read."),
	}
}

// reasonName gives a reason as metrics have it: line_too_long.
func reasonName(r pushv1.RejectReason) string {
	if _, ok := pushv1.RejectReason_name[int32(r)]; !ok {
		return "unknown"
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "REJECT_REASON_"))
}
