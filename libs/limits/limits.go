// Package limits holds what each tenant may do: sizes, counts, ranges and rates.
//
// [Limits] are values. A [Provider] knows the defaults and the overrides per tenant and reloads
// the latter while the process runs. A [RateLimiter] counts what tenants do against a rate.
package limits

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/logql/selection"
)

// Limits are the limits of one tenant. A Limits is a plain value; nobody changes the lists in it.
type Limits struct {
	MaxRequestSize    conf.ByteSize `help:"Largest push request as sent, compressed."`
	MaxRequestRawSize conf.ByteSize `help:"Largest push request once decompressed."`

	MaxLineSize         conf.ByteSize `help:"Largest log line."`
	MaxLabelNames       int           `help:"Most labels of a stream."`
	MaxLabelNameLength  int           `help:"Longest label name in bytes."`
	MaxLabelValueLength int           `help:"Longest label value in bytes."`
	MaxMetadataSize     conf.ByteSize `help:"Largest structured metadata of an entry, names and values together."`
	MaxMetadataPairs    int           `help:"Most pairs of structured metadata of an entry."`

	MaxFuture time.Duration `help:"Entries further in the future than this are refused."`
	MaxAge    time.Duration `help:"Entries older than this are refused."`

	MaxStreams int `help:"Most active streams; entries of new streams beyond it are refused, existing streams never."`

	IngestionRate  conf.ByteSize `help:"Bytes per second that may be pushed, over the whole cluster."`
	IngestionBurst conf.ByteSize `help:"Bytes that may be pushed at once."`

	IngestionShardSize int `help:"Ingesters that the tenant's streams are spread over, at least the replication factor. 0: all. Flush the cluster before it goes back to 0."`

	MaxQueryText        conf.ByteSize `help:"Longest query text."`
	MaxQuerySeries      int           `help:"Most series in the result of a metric query."`
	QuerySeriesOverflow string        `help:"What becomes of a metric query whose result has more series than max_query_series: fail, as in Loki, or cut, which keeps those of the greatest values and warns."`
	MaxQueryEntries     int           `help:"Most entries in the result of a log query."`
	MaxQueryPoints      int           `help:"Most points of a series in the result of a metric query."`
	MaxQueryRange       time.Duration `help:"Longest time range of a query."`

	MaxUnselectiveQueryBytes conf.ByteSize `help:"Most bytes of lines, in the time range, that a search without a stream selector may have before it. 0: there are no such searches."`

	QueryTimeout time.Duration `help:"Longest time that a query may run."`

	MaxQueuedQueries int `help:"Most queries that wait for their turn at a querier; those beyond are refused."`

	MaxTails        int           `help:"Most live tails at once."`
	MaxTailDuration time.Duration `help:"Longest time that a tail may last."`

	BlockIngestionUntil  Time `help:"All pushes are refused until this time (RFC 3339)."`
	BlockIngestionStatus int  `help:"HTTP status of pushes that are refused so. 260 makes agents go on as if all was stored."`

	UTF8Names bool `yaml:"utf8_names" help:"Take names of labels and structured metadata as they are sent, any UTF-8, such as k8s.pod.name; queries write them in quotes. Otherwise, as in Loki, such labels are refused, and in metadata and OpenTelemetry's attributes _ stands for what is no letter or digit."`

	OTLPConfig OTLPConfig

	RetentionPeriod time.Duration     `help:"Entries older than this are removed. 0: they are kept for ever."`
	RetentionStream []RetentionStream `help:"Periods of streams that differ: a list of {selector, priority, period}. Of the selectors that match an entry the one of the highest priority counts, of those the shortest period."`
	RetentionSize   conf.ByteSize     `help:"Bytes that the tenant may take in the store; beyond it the oldest blocks are removed. 0: no limit."`
	RetentionForce  bool              `help:"Let retention be shorter than an hour, and remove all that has expired at once, however large a share of the tenant it is."`
}

// RetentionStream is how long entries are kept that a selector matches.
type RetentionStream struct {
	// Selector is a stream selector; filters may follow it, such as
	// {app="checkout"} | detected_level="debug".
	Selector string
	Priority int
	Period   time.Duration // 0: for ever
}

// Time is a time of the configuration; the zero time: none.
type Time struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Time) UnmarshalText(text []byte) error {
	*t = Time{}
	if len(text) == 0 {
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time as in 2026-01-31T12:00:00Z", text)
	}
	t.Time = at
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.AppendFormat(nil, time.RFC3339), nil
}

// MinRetention is the shortest retention without RetentionForce.
const MinRetention = time.Hour

func (l Limits) validateRetention() error {
	var problems []error
	period := func(key string, d time.Duration) {
		switch {
		case d < 0:
			problems = append(problems, fmt.Errorf("%s is %s, must not be negative", key, d))
		case d > 0 && d < MinRetention && !l.RetentionForce:
			problems = append(problems, fmt.Errorf("%s is %s: nearly all would be removed; set retention_force if that is meant", key, d))
		}
	}
	period("retention_period", l.RetentionPeriod)
	for i, r := range l.RetentionStream {
		period(fmt.Sprintf("retention_stream[%d].period", i), r.Period)
		if _, err := selection.Parse(r.Selector); err != nil {
			problems = append(problems, fmt.Errorf("retention_stream[%d].selector: %w", i, err))
		}
	}
	if l.RetentionSize < 0 {
		problems = append(problems, errors.New("retention_size must not be negative"))
	}
	return errors.Join(problems...)
}

// OTLP returns what becomes of OpenTelemetry's attributes.
func (l *Limits) OTLP() *OTLPConfig {
	cfg := l.OTLPConfig
	cfg.KeepNames = l.UTF8Names
	return &cfg
}

// What QuerySeriesOverflow may be.
const (
	FailSeries = "fail"
	CutSeries  = "cut"
)

// Default returns the limits of a tenant for which nothing is configured.
func Default() Limits {
	return Limits{
		MaxRequestSize:    16 * conf.MiB,
		MaxRequestRawSize: 64 * conf.MiB,

		MaxLineSize:         256 * conf.KiB,
		MaxLabelNames:       15,
		MaxLabelNameLength:  1024,
		MaxLabelValueLength: 2048,
		MaxMetadataSize:     64 * conf.KiB,
		MaxMetadataPairs:    128,

		MaxFuture: 10 * time.Minute,
		MaxAge:    87600 * time.Hour,

		MaxStreams: 100_000,

		IngestionRate:  64 * conf.MB,
		IngestionBurst: 128 * conf.MB,

		BlockIngestionStatus: 260,

		MaxQueryText:        128 * conf.KiB,
		MaxQuerySeries:      500,
		QuerySeriesOverflow: FailSeries,
		MaxQueryEntries:     5000,
		MaxQueryPoints:      11000,
		MaxQueryRange:       721 * time.Hour,

		MaxUnselectiveQueryBytes: 10 * conf.GiB,

		QueryTimeout: time.Minute,

		MaxQueuedQueries: 128,

		MaxTails:        10,
		MaxTailDuration: time.Hour,
	}
}

// Validate returns all problems. Every limit is at least 1: there is no value that means
// "unlimited", a large one does. Retention is no limit: 0 switches it off.
func (l Limits) Validate() error {
	var problems []error
	atLeastOne := func(key string, v int64) {
		if v < 1 {
			problems = append(problems, fmt.Errorf("%s must be at least 1", key))
		}
	}
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			problems = append(problems, fmt.Errorf("%s must be more than 0", key))
		}
	}
	atLeastOne("max_request_size", int64(l.MaxRequestSize))
	atLeastOne("max_request_raw_size", int64(l.MaxRequestRawSize))
	atLeastOne("max_line_size", int64(l.MaxLineSize))
	atLeastOne("max_label_names", int64(l.MaxLabelNames))
	atLeastOne("max_label_name_length", int64(l.MaxLabelNameLength))
	atLeastOne("max_label_value_length", int64(l.MaxLabelValueLength))
	atLeastOne("max_metadata_size", int64(l.MaxMetadataSize))
	atLeastOne("max_metadata_pairs", int64(l.MaxMetadataPairs))
	positive("max_future", l.MaxFuture)
	positive("max_age", l.MaxAge)
	atLeastOne("max_streams", int64(l.MaxStreams))
	atLeastOne("ingestion_rate", int64(l.IngestionRate))
	atLeastOne("ingestion_burst", int64(l.IngestionBurst))
	if l.IngestionShardSize < 0 {
		problems = append(problems, errors.New("ingestion_shard_size must not be negative"))
	}
	atLeastOne("max_query_text", int64(l.MaxQueryText))
	atLeastOne("max_query_series", int64(l.MaxQuerySeries))
	if o := l.QuerySeriesOverflow; o != FailSeries && o != CutSeries {
		problems = append(problems, fmt.Errorf("query_series_overflow is %q, must be %s or %s", o, FailSeries, CutSeries))
	}
	atLeastOne("max_query_entries", int64(l.MaxQueryEntries))
	atLeastOne("max_query_points", int64(l.MaxQueryPoints))
	positive("max_query_range", l.MaxQueryRange)
	positive("query_timeout", l.QueryTimeout)
	atLeastOne("max_queued_queries", int64(l.MaxQueuedQueries))
	atLeastOne("max_tails", int64(l.MaxTails))
	positive("max_tail_duration", l.MaxTailDuration)
	if s := l.BlockIngestionStatus; s < 200 || s > 599 {
		problems = append(problems, fmt.Errorf("block_ingestion_status is %d, must be from 200 to 599", s))
	}
	problems = append(problems, l.OTLPConfig.validate(), l.validateRetention())
	if l.MaxRequestRawSize < l.MaxLineSize {
		problems = append(problems, errors.New("max_request_raw_size must be at least max_line_size: such a line could never be sent"))
	}
	return errors.Join(problems...)
}
