package pipeline

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
)

// Custom holds the series of metrics stages. It is a prometheus.Collector, to be
// registered once; pipelines share it, so a metric of two jobs is one, and lives
// on over a reload. It is safe for concurrent use.
type Custom struct {
	now     func() time.Time
	mu      sync.Mutex
	metrics map[string]*customMetric
	gen     int // of the configuration
	left    prometheus.Counter
}

// NewCustom makes an empty one. now tells which series are idle; reg, which may
// be nil, gets it registered.
func NewCustom(now func() time.Time, reg prometheus.Registerer) *Custom {
	c := &Custom{now: now, metrics: map[string]*customMetric{}, left: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "weir_agent_custom_series_refused_total",
		Help: "Values of metrics stages that had no room: a metric has 10000 series at most.",
	})}
	if reg != nil {
		reg.MustRegister(c, c.left)
	}
	return c
}

// maxSeries bounds the series of a metric.
const maxSeries = 10_000

type customMetric struct {
	name, help string
	kind       string // counter, gauge, histogram
	buckets    []float64
	idle       time.Duration
	series     map[string]*customSeries
	gen        int
}

type customSeries struct {
	names, values []string
	value         float64
	counts        []uint64 // by bucket, the last is +Inf
	count         uint64
	touched       time.Time
}

// Begin is called before a configuration is read, again too: what it defines may
// differ from what there was, but not from itself.
func (c *Custom) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
}

// define gives the metric of that name; an error if the same configuration has
// another one of it.
func (c *Custom) define(m *customMetric) (*customMetric, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.metrics[m.name]
	switch {
	case old == nil:
	case old.kind == m.kind && slices.Equal(old.buckets, m.buckets):
		old.help, old.idle, old.gen = m.help, m.idle, c.gen
		return old, nil
	case old.gen == c.gen:
		return nil, fmt.Errorf("metric %s is a %s elsewhere, or has other buckets", m.name, old.kind)
	}
	// A histogram x has the series x_count, x_sum and x_bucket.
	for _, suffix := range []string{"_count", "_sum", "_bucket"} {
		base, cut := strings.CutSuffix(m.name, suffix)
		if h := c.metrics[base]; cut && h != nil && h.kind == "histogram" && h.gen == c.gen {
			return nil, fmt.Errorf("metric %s is part of the histogram %s", m.name, base)
		}
		if o := c.metrics[m.name+suffix]; o != nil && m.kind == "histogram" && o.gen == c.gen {
			return nil, fmt.Errorf("metric %s would be part of the histogram %s", o.name, m.name)
		}
	}
	m.series, m.gen = map[string]*customSeries{}, c.gen
	c.metrics[m.name] = m
	return m, nil
}

var errSeries = errors.New("too many series")

// update changes the series of labels. v is what f is told.
func (c *Custom) update(m *customMetric, labels []model.Label, key *[]byte, f func(*customSeries)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	*key = (*key)[:0]
	// le is the label of histograms' own.
	shown := func(name string) bool {
		return !strings.HasPrefix(name, "__") && (name != "le" || m.kind != "histogram")
	}
	for _, l := range labels {
		if shown(l.Name) {
			*key = entry.AppendKey(*key, []model.Label{l})
		}
	}
	s := m.series[string(*key)]
	if s == nil {
		if len(m.series) >= maxSeries {
			c.left.Inc()
			return errSeries
		}
		s = &customSeries{}
		for _, l := range labels {
			if shown(l.Name) {
				s.names = append(s.names, strings.Clone(l.Name))
				s.values = append(s.values, strings.ToValidUTF8(strings.Clone(l.Value), "\uFFFD"))
			}
		}
		if m.kind == "histogram" {
			s.counts = make([]uint64, len(m.buckets)+1)
		}
		m.series[string(*key)] = s
	}
	s.touched = c.now()
	f(s)
	return nil
}

// Describe describes nothing: what there is depends on the lines.
func (c *Custom) Describe(chan<- *prometheus.Desc) {}

// Collect gives all series, and forgets those that are idle.
func (c *Custom) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for _, m := range c.metrics {
		for key, s := range m.series {
			desc := prometheus.NewDesc(m.name, m.help, s.names, nil)
			var out prometheus.Metric
			var err error
			switch m.kind {
			case "histogram":
				buckets, sum := map[float64]uint64{}, uint64(0)
				for i, b := range m.buckets {
					sum += s.counts[i]
					buckets[b] = sum
				}
				out, err = prometheus.NewConstHistogram(desc, s.count, s.value, buckets, s.values...)
			case "gauge":
				out, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.value, s.values...)
			default:
				out, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.value, s.values...)
			}
			if err != nil {
				out = prometheus.NewInvalidMetric(desc, err)
			}
			ch <- out
			if now.Sub(s.touched) > m.idle {
				delete(m.series, key)
			}
		}
	}
}

// change does what the action says. false: the value is not one for it.
func (s *customSeries) change(m *customMetric, action string, v float64) bool {
	if math.IsNaN(v) || m.kind == "counter" && (v < 0 || math.IsInf(v, 0)) {
		return false // a counter does not fall
	}
	switch action {
	case "inc":
		s.value++
	case "dec":
		s.value--
	case "add":
		s.value += v
	case "sub":
		s.value -= v
	case "set":
		s.value = v
	case "observe":
		i, _ := slices.BinarySearch(m.buckets, v)
		s.counts[i]++
		s.count++
		s.value += v
	}
	return true
}
