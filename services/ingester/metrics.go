package ingester

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rows       prometheus.Counter
	duplicates prometheus.Counter
	refused    prometheus.Counter
	followers  prometheus.Gauge
	tooMany    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	gauge("weir_ingester_head_bytes", "Memory taken by the rows in the head.", func() float64 { return float64(s.head.Size()) })
	gauge("weir_ingester_head_limit_bytes", "Memory that the head may take.", func() float64 { return float64(s.deps.HeadLimit) })
	gauge("weir_ingester_streams", "Streams in the head.", func() float64 { return float64(s.head.Stats().Streams) })
	gauge("weir_ingester_entries", "Entries in the head.", func() float64 { return float64(s.head.Stats().Rows) })
	return &metrics{
		rows: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_received_entries_total",
			Help: "Entries taken in, those that were there before included."}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_duplicate_entries_total",
			Help: "Entries that were there before."}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_refused_requests_total",
			Help: "Requests refused because the head was full."}),
		followers: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_ingester_followers",
			Help: "Live tails being served."}),
		tooMany: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ingester_refused_followers_total",
			Help: "Live tails refused because as many as may be were being served."}),
	}
}
