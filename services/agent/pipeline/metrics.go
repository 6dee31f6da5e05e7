package pipeline

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what stages do to lines. It is safe for concurrent use; nil
// counts nothing.
type Metrics struct {
	errors, droppedLines, droppedBytes, cut *prometheus.CounterVec
	byLabel                                 *prometheus.CounterVec

	mu   sync.Mutex
	seen map[[2]string]bool // what byLabel has
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	return &Metrics{
		seen: map[[2]string]bool{},
		errors: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_stage_errors_total",
			Help: "Lines that a stage could do nothing with, and passed on as they were.",
		}, []string{"stage"}),
		droppedLines: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_stage_dropped_lines_total",
			Help: "Lines that stages dropped, as configured.",
		}, []string{"reason"}),
		droppedBytes: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_stage_dropped_bytes_total",
			Help: "Bytes of the lines that stages dropped.",
		}, []string{"reason"}),
		cut: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_stage_cut_lines_total",
			Help: "Lines that a stage made shorter, because they were too long.",
		}, []string{"stage"}),
		byLabel: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_stage_limited_lines_total",
			Help: "Lines that a limit by label dropped, by that label.",
		}, []string{"label_name", "label_value"}),
	}
}

func (m *Metrics) failed(stage string) {
	if m != nil {
		m.errors.WithLabelValues(stage).Inc()
	}
}

func (m *Metrics) dropped(reason string, bytes int) {
	if m != nil {
		m.droppedLines.WithLabelValues(reason).Inc()
		m.droppedBytes.WithLabelValues(reason).Add(float64(bytes))
	}
}

func (m *Metrics) wasCut(stage string) {
	if m != nil {
		m.cut.WithLabelValues(stage).Inc()
	}
}

// maxLimited bounds the series of byLabel.
const maxLimited = 1000

func (m *Metrics) droppedByLabel(name, value string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	k := [2]string{name, value}
	if !m.seen[k] {
		if len(m.seen) < maxLimited {
			k[1] = strings.ToValidUTF8(strings.Clone(value), "\uFFFD")
			m.seen[k] = true
		} else {
			k[1] = "others"
		}
	}
	m.mu.Unlock()
	m.byLabel.WithLabelValues(k[0], k[1]).Inc()
}
