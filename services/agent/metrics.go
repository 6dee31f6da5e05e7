package agent

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

type metrics struct {
	batches, accepted                  prometheus.Counter
	refused, retries                   *prometheus.CounterVec
	pending, journalBytes              prometheus.Gauge
	journalErrors, saveErrors, damaged prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return with.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &metrics{
		batches:  counter("weir_agent_sent_batches_total", "Batches that the server has taken."),
		accepted: counter("weir_agent_sent_entries_total", "Entries that the server has stored, repetitions included."),
		refused: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_refused_entries_total", Help: "Entries that the server has refused for good.",
		}, []string{"reason"}),
		retries: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_retries_total", Help: "Attempts to push that failed and are repeated, by gRPC code.",
		}, []string{"code"}),
		pending:       gauge("weir_agent_pending_batches", "Batches that wait for their acknowledgement."),
		journalBytes:  gauge("weir_agent_journal_bytes", "Size of the journal on disk."),
		journalErrors: counter("weir_agent_journal_errors_total", "Failed attempts to write the journal."),
		saveErrors:    counter("weir_agent_positions_errors_total", "Failed attempts to save the positions."),
		damaged:       counter("weir_agent_damaged_records_total", "Records of the journal, and positions files, that could not be read."),
	}
}

// reasonName gives a reason as metrics have it: line_too_long.
func reasonName(r pushv1.RejectReason) string {
	if _, ok := pushv1.RejectReason_name[int32(r)]; !ok {
		return "unknown"
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "REJECT_REASON_"))
}
