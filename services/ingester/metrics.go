package ingester

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/block"
)

type metrics struct {
	rows       prometheus.Counter
	duplicates prometheus.Counter
	refused    prometheus.Counter
	late       prometheus.Counter
	noMemory   prometheus.Counter

	followers     prometheus.Gauge
	tooMany       prometheus.Counter
	lostFollowers prometheus.Counter
	logReads      prometheus.Counter

	cuts, cutBytes, cutRows, cutWhole, cutFailures prometheus.Counter
	cutDuration                                    prometheus.Histogram
	merges, dropped                                prometheus.Counter
	damagedContainers, damagedBlocks, panics       prometheus.Counter

	uploads, uploadBytes, uploadFailures prometheus.Counter
	uploadDuration                       prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.01, 4, 8)})
	}
	gauge("weir_ingester_head_bytes", "Memory taken by entries that are in no block yet, and by those kept for live tails.", func() float64 {
		all, _ := s.gens.size()
		return float64(all)
	})
	gauge("weir_ingester_tail_bytes", "Of these, memory taken by entries that are in a block and are kept for live tails.", func() float64 {
		_, passed := s.gens.size()
		return float64(passed)
	})
	gauge("weir_ingester_head_limit_bytes", "Memory that the head may take.", func() float64 { return float64(s.deps.HeadLimit) })
	gauge("weir_ingester_waiting_bytes", "Memory that requests need which wait for room in the head.", func() float64 { n, _ := s.room.stats(); return float64(n) })
	f.NewCounterFunc(prometheus.CounterOpts{Name: "weir_ingester_waited_requests_total", Help: "Requests that waited for room in the head, whether they got it or not."}, func() float64 { _, n := s.room.stats(); return float64(n) })
	gauge("weir_ingester_streams", "Streams in the head.", func() float64 { return float64(s.gens.stats().Streams) })
	gauge("weir_ingester_entries", "Entries in the head.", func() float64 { return float64(s.gens.stats().Rows) })
	gauge("weir_ingester_local_containers", "Files of local blocks.", func() float64 { n, _, _ := s.blocks.count(); return float64(n) })
	gauge("weir_ingester_local_blocks", "Local blocks.", func() float64 { _, n, _ := s.blocks.count(); return float64(n) })
	gauge("weir_ingester_local_bytes", "Bytes of local blocks.", func() float64 { _, _, n := s.blocks.count(); return float64(n) })
	gauge("weir_ingester_upload_backlog_bytes", "Bytes of lines in local blocks that are not uploaded yet.", func() float64 { n, _ := s.backlog(); return float64(n) })
	gauge("weir_ingester_upload_backlog_age_seconds", "Age of the oldest local block that is not uploaded yet.", func() float64 {
		if _, oldest := s.backlog(); !oldest.IsZero() {
			return s.now().Sub(oldest).Seconds()
		}
		return 0
	})
	gauge("weir_ingester_knowledge_bytes", "Memory taken by what is known of the lines of blocks written before: templates, and words that vary.", func() float64 { return float64(s.knowledge.Stats().Bytes) })
	gauge("weir_ingester_knowledge_limit_bytes", "Memory that it may take.", func() float64 { return float64(s.knowledgeLimit()) })
	count := func(name, help string, value func(block.KnowledgeStats) uint64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(s.knowledge.Stats())) })
	}
	count("weir_ingester_knowledge_hits_total", "Sections of blocks for which something was known.", func(k block.KnowledgeStats) uint64 { return k.Hits })
	count("weir_ingester_knowledge_misses_total", "Sections of blocks for which nothing was known.", func(k block.KnowledgeStats) uint64 { return k.Misses })
	count("weir_ingester_knowledge_evictions_total", "Times that what is known of lines was given up for want of memory.", func(k block.KnowledgeStats) uint64 { return k.Evictions })
	return &metrics{
		rows:       counter("weir_ingester_received_entries_total", "Entries taken in, those that were there before included."),
		duplicates: counter("weir_ingester_duplicate_entries_total", "Entries that were in memory before."),
		refused:    counter("weir_ingester_refused_requests_total", "Requests refused because the head was full."),
		late:       counter("weir_ingester_late_requests_total", "Requests not stored because their deadline was over, as after the process was stopped for a while."),
		noMemory:   counter("weir_ingester_memory_refusals_total", "Reads ended as they would have needed more memory than each may use."),

		followers:     f.NewGauge(prometheus.GaugeOpts{Name: "weir_ingester_followers", Help: "Live tails being served."}),
		tooMany:       counter("weir_ingester_refused_followers_total", "Live tails refused because as many as may be were being served."),
		lostFollowers: counter("weir_ingester_lost_followers_total", "Times that entries left memory and the log before a live tail had read them; the tail was told."),
		logReads:      counter("weir_ingester_log_reads_total", "Times that a live tail was so far behind that it was read from the log."),

		cuts:        counter("weir_ingester_cuts_total", "Times that entries were moved from memory to local blocks."),
		cutBytes:    counter("weir_ingester_cut_bytes_total", "Bytes of the files of local blocks that were written for that."),
		cutRows:     counter("weir_ingester_cut_entries_total", "Entries moved from memory to local blocks."),
		cutWhole:    counter("weir_ingester_cut_whole_entries_total", "Of the entries moved to local blocks, those whose lines were kept whole, since there were few of each service."),
		cutFailures: counter("weir_ingester_cut_failures_total", "Failures to write or merge local blocks."),
		cutDuration: seconds("weir_ingester_cut_duration_seconds", "How long it took to move entries from memory to local blocks."),
		merges:      counter("weir_ingester_merges_total", "Merges of local blocks."),
		dropped:     counter("weir_ingester_dropped_containers_total", "Files of local blocks dropped because all they held was uploaded."),

		damagedContainers: counter("weir_ingester_damaged_containers_total", "Files of local blocks that were found damaged at the start."),
		damagedBlocks:     counter("weir_ingester_damaged_blocks_total", "Local blocks that were found damaged when they were read."),
		panics:            counter("weir_ingester_block_panics_total", "Panics while local blocks were written, merged or uploaded: bugs, not damage. It is tried again in another way; the log has the blocks and the stack."),

		uploads:        counter("weir_ingester_uploads_total", "Blocks uploaded and read back."),
		uploadBytes:    counter("weir_ingester_upload_bytes_total", "Bytes of these."),
		uploadFailures: counter("weir_ingester_upload_failures_total", "Failures to upload; what failed is tried again."),
		uploadDuration: seconds("weir_ingester_upload_duration_seconds", "How long it took to upload a block and read it back."),
	}
}
