package distributor

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

type metrics struct {
	entries     *prometheus.CounterVec // by door
	bytes       *prometheus.CounterVec // by door
	rejected    *prometheus.CounterVec // by reason
	noQuorum    prometheus.Counter
	replicaTime *prometheus.HistogramVec // by outcome
	lookups     *prometheus.CounterVec   // by result
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_distributor_active_streams", Help: "Streams that got entries lately."},
		func() float64 { return float64(s.streams.active.Total()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_distributor_open_breakers", Help: "Ingesters that are not written to, since they have not answered lately."},
		func() float64 { return float64(s.breakers.open()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_distributor_clock_skew_seconds", Help: "Most by which the clock of an ingester's machine differs from this one's."},
		func() float64 { return s.clocks.skew().Seconds() })
	return &metrics{
		entries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_distributor_accepted_entries_total", Help: "Entries acknowledged."}, []string{"door"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_distributor_accepted_bytes_total", Help: "Bytes of lines and metadata of acknowledged requests."}, []string{"door"}),
		rejected: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_distributor_rejected_entries_total", Help: "Entries refused."}, []string{"reason"}),
		lookups: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_distributor_stream_lookups_total", Help: "Streams of tenants at their limit that the ingesters were asked for: known, new, or unanswered by too many."}, []string{"result"}),
		noQuorum: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_distributor_no_quorum_total", Help: "Requests refused because too few ingesters were healthy."}),
		replicaTime: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_distributor_replica_duration_seconds", Help: "Time that an ingester took to store a request.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"outcome"}),
	}
}

func (m *metrics) accepted(door string, entries uint64, bytes int64) {
	switch door {
	case "grpc", "loki", "otlp":
	default:
		door = "other"
	}
	m.entries.WithLabelValues(door).Add(float64(entries))
	m.bytes.WithLabelValues(door).Add(float64(bytes))
}

func (m *metrics) refused(reason pushv1.RejectReason, n int) {
	name := strings.ToLower(strings.TrimPrefix(reason.String(), "REJECT_REASON_"))
	m.rejected.WithLabelValues(name).Add(float64(n))
}

func (m *metrics) rateLimited(n int) { m.rejected.WithLabelValues("rate_limited").Add(float64(n)) }

func (m *metrics) replica(err error, took time.Duration) {
	outcome := "stored"
	if err != nil {
		outcome = "failed"
	}
	m.replicaTime.WithLabelValues(outcome).Observe(took.Seconds())
}
