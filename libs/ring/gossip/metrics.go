package gossip

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/ring"
)

type metrics struct {
	members   *prometheus.GaugeVec   // by state and health
	bytes     prometheus.Gauge       // of the encoded table
	views     prometheus.Counter     // views published
	received  *prometheus.CounterVec // by kind and result
	joins     *prometheus.CounterVec // by result
	conflicts prometheus.Counter
	saves     *prometheus.CounterVec // by result

	factor, factors, mismatched prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		members: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_ring_members",
			Help: "Members in the table, by state and by whether this process holds them healthy.",
		}, []string{"state", "healthy"}),
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_ring_table_bytes",
			Help: "Size of the encoded member table.",
		}),
		views: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ring_views_total",
			Help: "Changes of membership or health that this process has seen.",
		}),
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ring_messages_total",
			Help: "Gossip received: single records and whole tables; new, known, corrupt, or refused because the table is full.",
		}, []string{"kind", "result"}),
		joins: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ring_joins_total",
			Help: "Attempts to reach a join address.",
		}, []string{"result"}),
		conflicts: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_ring_name_conflicts_total",
			Help: "Times that another data directory or address claimed a name that is in use.",
		}),
		saves: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ring_table_saves_total",
			Help: "Writes of the member table to its file.",
		}, []string{"result"}),
		factor: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_ring_replication_factor",
			Help: "The replication factor that most ingesters are configured with, which all members use.",
		}),
		factors: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_ring_replication_factors",
			Help: "Replication factors by which entries may have been placed that are not in the object store yet; above 1 while it is being changed.",
		}),
		mismatched: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_ring_mismatched_members",
			Help: "Members that are configured with another replication factor than the one in use.",
		}),
	}
	return m
}

// show sets the gauges.
func (m *metrics) show(v *ring.View, size int) {
	m.bytes.Set(float64(size))
	m.factor.Set(float64(v.Config().ReplicationFactor))
	m.factors.Set(float64(len(v.Factors().Slice())))
	m.mismatched.Set(float64(len(v.Mismatched())))
	count := map[ring.State][2]int{}
	for s := ring.Joining; s <= ring.Forgotten; s++ {
		count[s] = [2]int{}
	}
	for mb := range v.Table().All() {
		c := count[mb.State]
		if v.Healthy(mb.Name) {
			c[1]++
		} else {
			c[0]++
		}
		count[mb.State] = c
	}
	for s, c := range count {
		m.members.WithLabelValues(s.String(), "false").Set(float64(c[0]))
		m.members.WithLabelValues(s.String(), "true").Set(float64(c[1]))
	}
}
