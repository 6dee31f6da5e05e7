package objstore

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	operations *prometheus.CounterVec
	failures   *prometheus.CounterVec
	retries    *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	inFlight   *prometheus.GaugeVec
	read       prometheus.Counter
	written    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	operation := []string{"operation"}
	counters := func(name, help string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_objstore_" + name, Help: help}, operation))
	}
	counter := func(name, help string) prometheus.Counter {
		return register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_objstore_" + name, Help: help}))
	}
	return &metrics{
		operations: counters("operations_total", "Operations on the object store that were asked for."),
		failures:   counters("failures_total", "Operations that failed after all attempts. That an object is missing, or there already, is no failure."),
		retries:    counters("retries_total", "Attempts beyond the first of an operation."),
		duration: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_objstore_attempt_duration_seconds", Help: "Duration of an attempt at an operation.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 17),
		}, operation)),
		inFlight: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_objstore_in_flight_operations", Help: "Operations under way, those that wait for their turn excluded.",
		}, operation)),
		read:    counter("read_bytes_total", "Bytes of objects read."),
		written: counter("written_bytes_total", "Bytes of objects written."),
	}
}

// register returns the collector that is published, which is an earlier one if the process has
// several buckets.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			return already.ExistingCollector.(C)
		}
		panic(err) // the names are constants, so a test meets it
	}
	return c
}
