package follow

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are those of all Followers together.
type Metrics struct {
	lines, bytes, cut, partial   prometheus.Counter
	truncations, replaced, found prometheus.Counter
	lost, gaps, postponed        prometheus.Counter
	goneResting, goneBytes       prometheus.Counter
	errors                       *prometheus.CounterVec
	active, resting, most, lag   prometheus.Gauge
}

// NewMetrics registers them with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &Metrics{
		lines:       counter("weir_agent_read_lines_total", "Lines read from files."),
		bytes:       counter("weir_agent_read_bytes_total", "Bytes read from files, line ends included."),
		cut:         counter("weir_agent_cut_lines_total", "Lines cut because of their length."),
		partial:     counter("weir_agent_partial_lines_total", "Unfinished lines sent because their end did not come in time."),
		truncations: counter("weir_agent_truncations_total", "Files found truncated or replaced in place, and read from their start."),
		lost:        counter("weir_agent_truncated_unread_bytes_total", "Bytes that were seen in files, not yet read when these were truncated, and in no copy."),
		gaps:        counter("weir_agent_rotation_gaps_total", "Times when a file that was read was already deleted as the ones rotated after it were found, so that others between may have been deleted unread."),
		postponed:   counter("weir_agent_postponed_looks_total", "Times when files were left for later, as there was no descriptor for one or as many were open as may be. They are read in their order when there is."),
		goneResting: counter("weir_agent_deleted_resting_files_total", "Files that were deleted, or moved out of their folder, while they were closed for want of descriptors. What was written to them after the last look, a second before at most where none waited, was not read."),
		goneBytes:   counter("weir_agent_deleted_unread_bytes_total", "Bytes that were seen in such files and not read."),
		replaced:    counter("weir_agent_replaced_files_total", "Files that were renamed away or deleted while they were followed."),
		found:       counter("weir_agent_recovered_files_total", "Renamed files and copies whose rest was found beside the file."),
		errors: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_file_errors_total", Help: "Failed operations on files.",
		}, []string{"operation"}),
		active:  with.NewGauge(prometheus.GaugeOpts{Name: "weir_agent_open_files", Help: "Files that are open."}),
		resting: with.NewGauge(prometheus.GaugeOpts{Name: "weir_agent_resting_files", Help: "Files that are followed and closed for others, until they grow."}),
		most:    with.NewGauge(prometheus.GaugeOpts{Name: "weir_agent_max_open_files", Help: "How many files may be open at a time."}),
		lag:     with.NewGauge(prometheus.GaugeOpts{Name: "weir_agent_lag_bytes", Help: "Bytes in followed files that were not read yet."}),
	}
}
