package wal

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appendedRecords prometheus.Counter
	appendedBytes   prometheus.Counter
	batchRecords    prometheus.Histogram
	syncSeconds     prometheus.Histogram
	queueBytes      prometheus.Gauge
	overloaded      prometheus.Counter
	diskFull        prometheus.Counter
	failed          prometheus.Gauge
	segments        prometheus.Gauge
	sizeBytes       prometheus.Gauge
	replayedRecords prometheus.Counter
	tornTails       prometheus.Counter
	corrupt         *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_wal_" + name, Help: help}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_wal_" + name, Help: help}))
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_wal_" + name, Help: help, Buckets: buckets}))
	}
	return &metrics{
		appendedRecords: counter("appended_records_total", "Records acknowledged."),
		appendedBytes:   counter("appended_bytes_total", "Payload bytes acknowledged."),
		batchRecords:    histogram("batch_records", "Records written with one write.", prometheus.ExponentialBuckets(1, 2, 11)),
		syncSeconds:     histogram("sync_duration_seconds", "Duration of an fdatasync of the active segment.", prometheus.ExponentialBuckets(0.0001, 2, 18)),
		queueBytes:      gauge("queue_bytes", "Bytes waiting to be written."),
		overloaded:      counter("overloaded_total", "Appends refused because the queue stayed full until their deadline."),
		diskFull:        counter("disk_full_total", "Batches refused because the disk is full, above the watermark or read-only."),
		failed:          gauge("failed", "1 after a failed write or fsync, until the log is reopened."),
		segments:        gauge("segments", "Segments of the log."),
		sizeBytes:       gauge("size_bytes", "Bytes of all segments."),
		replayedRecords: counter("replayed_records_total", "Records delivered by replays."),
		tornTails:       counter("torn_tails_total", "Appends cut short by a crash that replays found; none was acknowledged."),
		corrupt: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_wal_corrupt_ranges_total", Help: "Damaged ranges that replays found, by reason.",
		}, []string{"reason"})),
	}
}

// register returns the collector that is published, which is an earlier one if a log was reopened
// within the process.
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
