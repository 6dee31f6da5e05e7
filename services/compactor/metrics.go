package compactor

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	cycles       *prometheus.CounterVec // by result
	cycleTime    prometheus.Histogram
	merges       *prometheus.CounterVec // by reason and result
	mergedBytes  *prometheus.CounterVec // by direction
	rows         *prometheus.CounterVec // by outcome
	backlog      prometheus.Gauge
	backlogBytes prometheus.Gauge
	waiting      prometheus.Gauge
	hidden       prometheus.Gauge
	hiddenBytes  prometheus.Gauge
	due          prometheus.Gauge
	deleted      *prometheus.CounterVec // by reason
	deletedBytes *prometheus.CounterVec // by reason
	held         *prometheus.GaugeVec   // by tenant
	deletes      prometheus.Gauge
	refused      *prometheus.CounterVec // by limit
	damaged      prometheus.Counter
	panics       prometheus.Counter
	lastSuccess  prometheus.Gauge

	dryRuns        prometheus.Gauge
	refusedDryRuns prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		cycles: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_cycles_total", Help: "Cycles by result: success, or failure where anything failed or a merge that fails was left out."}, []string{"result"}),
		cycleTime: f.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_compactor_cycle_duration_seconds", Help: "Time that a cycle took.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
		merges: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_merges_total", Help: "Merges by reason and result."}, []string{"reason", "result"}),
		mergedBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_merged_bytes_total", Help: "Bytes of blocks that merges read (in) and stored (out)."}, []string{"direction"}),
		rows: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_merged_rows_total", Help: "Rows of sources by what became of them: kept, copy, removed."}, []string{"outcome"}),
		backlog: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_backlog_merges", Help: "Merges that are worth it and have not been made, of the tenants that this process owns."}),
		backlogBytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_backlog_bytes", Help: "Bytes of blocks that wait for these merges."}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_waiting_merges", Help: "Merges that failed more than once, for another reason than the store, and are left out of some cycles before they are tried again."}),
		hidden: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_replaced_blocks", Help: "Blocks that others replace and that have not been deleted yet."}),
		hiddenBytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_replaced_bytes", Help: "Bytes of these blocks."}),
		due: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_due_blocks", Help: "Blocks that hold rows which a delete or retention is to remove."}),
		deleted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_deleted_blocks_total", Help: "Objects deleted, by reason: replaced, expired, size, empty, half (a put that was cut)."}, []string{"reason"}),
		deletedBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_deleted_bytes_total", Help: "Bytes of these objects."}, []string{"reason"}),
		held: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_compactor_held_back_bytes", Help: "Bytes of blocks that have expired and wait because retention_share of the tenant has gone already."}, []string{"tenant"}),
		deletes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_deletes", Help: "Deletes that are in force."}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_compactor_refused_deletes_total", Help: "Deletes that were refused because as many of the tenant's as may be were in force, or had been cancelled in the last day, by limit: in_force, cancelled."}, []string{"limit"}),
		damaged: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_compactor_damaged_blocks_total", Help: "Blocks that could not be read, when they were to be merged or were read back."}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_compactor_panics_total", Help: "Panics while blocks were merged, read or deleted: bugs, not damage. It is tried again, ever more seldom; the log has the blocks and the stack."}),
		dryRuns: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_dry_runs", Help: "Dry runs of retention that are reading blocks."}),
		refusedDryRuns: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_compactor_refused_dry_runs_total", Help: "Dry runs of retention that were refused since as many as may were reading blocks."}),
		lastSuccess: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_compactor_last_success_timestamp_seconds", Help: "When a cycle last ended without an error, and left out no merge that fails; before the first, when the compactor began."}),
	}
	for _, r := range []string{"success", "failure"} {
		m.cycles.WithLabelValues(r)
	}
	for _, limit := range []string{limitInForce, limitCancelled} {
		m.refused.WithLabelValues(limit)
	}
	for _, r := range []string{reasonReplaced, reasonExpired, reasonSize, reasonEmpty, reasonHalf} {
		m.deleted.WithLabelValues(r)
	}
	return m
}

// Limits at which deletes are refused.
const (
	limitInForce   = "in_force"
	limitCancelled = "cancelled"
)

// Reasons for which objects are deleted.
const (
	reasonReplaced = "replaced"
	reasonExpired  = "expired"
	reasonSize     = "size"
	reasonEmpty    = "empty"
	reasonHalf     = "half"
)
