package catalog

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type loaderMetrics struct {
	failures prometheus.Counter
	footers  prometheus.Counter
	half     prometheus.Counter
	foreign  prometheus.Counter
}

func newLoaderMetrics(reg prometheus.Registerer, l *Loader) *loaderMetrics {
	f := promauto.With(reg)
	sum := func(of func(*tenantState) int) func() float64 {
		return func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := 0
			for _, s := range l.tenants {
				n += of(s)
			}
			return float64(n)
		}
	}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_catalog_" + name, Help: help}, value)
	}
	gauge("blocks", "Blocks that are listed, hidden ones included.", sum(func(s *tenantState) int { return len(s.present) }))
	gauge("lost_blocks", "Blocks that vanished; their entries are missing in answers.", sum(func(s *tenantState) int { return len(s.lost) }))
	gauge("unreadable_blocks", "Blocks whose footer could not be read at the last listing.", sum(func(s *tenantState) int { return len(s.passing) }))
	gauge("listing_timestamp_seconds", "When the last complete listing of the object store began.", func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.listed.IsZero() {
			return 0
		}
		return float64(l.listed.UnixMilli()) / 1000
	})
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "weir_catalog_" + name, Help: help})
	}
	return &loaderMetrics{
		failures: counter("listing_failures_total", "Listings that failed, wholly or for some tenant."),
		footers:  counter("footers_read_total", "Footers of blocks read."),
		half:     counter("half_stored_total", "Objects seen in listings whose size is not that of their key."),
		foreign:  counter("foreign_objects_total", "Objects seen in listings that are no part of a store."),
	}
}
