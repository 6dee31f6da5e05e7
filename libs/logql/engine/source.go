package engine

import (
	"context"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Run is the rows of one stream within one interval of time inside one source.
// Two sources whose runs of a stream have equal interval, count and digest hold
// the same rows there, so one of them need not be read. Digests only save work:
// without them every answer is the same. In a run of a union a row may count several
// times: two that count each row as often hold the same rows, too.
type Run struct {
	MinTime, MaxTime int64 // of the first and the last row, both inclusive
	Rows             uint64
	Bytes            uint64 // of lines
	Digest           uint64 // sum of the rows' hashes modulo 2^64
}

// Stream is a stream that a snapshot holds rows of. Its runs ascend and do not
// touch; there are none only with WithSpans.
type Stream struct {
	Labels model.Labels
	Runs   []Run
}

// Store holds raw rows: an ingester's head, a block. It is what Local runs
// queries on.
type Store interface {
	// Open takes a snapshot of the streams that all matchers match, of their
	// rows with start <= time < end. Within one store an entry occurs once.
	Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (Snapshot, error)
}

// WithSpans makes stores and sources that are opened under ctx list streams without
// runs, too: those of which a stored piece (a chunk, a run of a block) has rows on both
// sides of the range and none within. Questions about which streams there are count
// them: a stream that logs now and then is there all the time. A store may leave it.
func WithSpans(ctx context.Context) context.Context {
	return context.WithValue(ctx, spansKey{}, true)
}

type spansKey struct{}

// Spans reports whether ctx is of WithSpans.
func Spans(ctx context.Context) bool { return ctx.Value(spansKey{}) != nil }

// Snapshot is a fixed state of a store; see Selective for what it may do besides. Its runs and rows agree with each other.
// It may be used by several goroutines; Close must come last. If it has a method
// Gaps() []string, that names ranges that the store is known to miss.
//
// Runs are best cut at times that other stores cut at too, such as full minutes:
// where copies of a stream grow, only the newest run then differs between them,
// and only that is united row by row.
type Snapshot interface {
	// Streams are the streams that have rows, ascending by labels.
	Streams() []Stream
	// Rows reads rows of the stream with that index with start <= time < end.
	Rows(stream int, start, end int64, backward bool) RowReader
	Close()
}

// RowReader reads the rows of a stream in batches. Rows within a batch strictly
// ascend by order key; batches ascend too, or, read backward, descend. A store that
// no longer knows batch times numbers the rows of equal time by Position, or else
// paging could not tell them apart. It is used by one goroutine.
type RowReader interface {
	// Next returns rows [from, to) of a batch, or io.EOF. The batch is valid,
	// and not to be changed, until the snapshot is closed.
	Next() (rows *model.Rows, from, to int, err error)
}

// Source is one place that answers the lower part of queries: pipelines and
// partial aggregates, where the rows are.
type Source interface {
	// Name identifies the source in messages to people.
	Name() string
	// Open takes a snapshot.
	Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (Session, error)
}

// Follower is a Source that is opened behind all others: what these have dropped by
// the time they are opened, it has by then.
type Follower interface {
	Source
	// OpenAfter is Open; others are the sessions of the other sources, nil where there
	// is none.
	OpenAfter(ctx context.Context, others []Session, matchers []*syntax.Matcher, start, end int64) (Session, error)
}

// Session is a snapshot of a source, held for one query. It is used by one
// goroutine at a time.
type Session interface {
	// Streams are the streams that have rows, ascending by labels.
	Streams() []Stream
	// Gaps names ranges that the source is known to miss, for people.
	Gaps() []string
	// Scan calls yield with rows in the asked order. The rows are valid during
	// the call only.
	Scan(ctx context.Context, req ScanRequest, yield func(*ScanRows) error) (ScanStats, error)
	// Aggregate returns partial aggregates.
	Aggregate(ctx context.Context, req AggregateRequest) ([]PartialSeries, ScanStats, error)
	// Patterns returns what lines have in common.
	Patterns(ctx context.Context, req PatternsRequest) ([]PatternCount, ScanStats, error)
	Close() error
}

// ScanRequest asks for rows of a session in order of time over all its streams.
type ScanRequest struct {
	// Query is a *syntax.LogSelector, whose rows are lines, or a
	// *syntax.RangeAggregation, whose rows are the samples that it would
	// aggregate. Its matchers play no part: the session has selected.
	Query syntax.Expr
	// Streams are indices into Session.Streams, ascending; nil: all.
	Streams []int
	// Ranges, if not nil, narrow each of Streams. A stream may be there several
	// times, with ranges that ascend and do not touch.
	Ranges []TimeRange
	// Start (inclusive) and End (exclusive) lie within the session's.
	Start, End int64
	// Limit is the most rows; 0: all. With Identity, a group of rows of equal time
	// and stream that begins within the limit is finished: the order within it
	// takes all sources.
	Limit    int
	Backward bool
	// Identity asks for hashes, so that rows can be united with another source's.
	Identity bool
	// Distinct are names of labels: a row of which an earlier one of the scan had the
	// values may be left out, and need not.
	Distinct []string
	// After, if set, is the row to go on behind, in the asked direction. With
	// Identity the whole group of rows that have its time and stream comes again,
	// and does not count towards Limit: another source may order it differently,
	// so whoever unites them drops what was given out.
	After *After
}

// TimeRange is the times t with Start <= t < End.
type TimeRange struct {
	Start, End int64
}

// After is a place in the order of the rows of a scan: by time, then by the
// stream's labels, then by the rest of the key; backward it is that reversed.
type After struct {
	Stream model.Labels // as in Session.Streams
	Key    model.OrderKey
}

// ScanRows is rows of a scan. Row i has label set Labels[Sets[i]].
type ScanRows struct {
	// Labels holds the label sets of the whole scan so far; it only grows.
	Labels []RowLabels
	Sets   []uint32
	Times  []int64
	Lines  model.Strings // of a log query
	Values []float64     // of a range aggregation
	// Hashes is there where asked for; keys always are.
	Hashes     []uint64
	BatchTimes []int64
	Positions  []uint32
}

// RowLabels is the labels of rows after the pipeline.
type RowLabels struct {
	Stream   int          // index into Session.Streams
	Labels   model.Labels // the stream's; for samples: the series'
	Metadata model.Labels
	// Parsed is what stages made. For samples it is empty, but for those with an
	// error: then it is all labels, __error__ included.
	Parsed model.Labels
}

// AggregateRequest asks for partial aggregates of windows (t-interval, t] at each
// t = Start, Start+Step, … <= End; the offset is taken into account by whoever
// asks.
type AggregateRequest struct {
	// Query is a *syntax.RangeAggregation, or a sum over one.
	Query            syntax.Expr
	Streams          []int       // as in ScanRequest
	Ranges           []TimeRange // as in ScanRequest
	Start, End, Step int64       // Step 0: the one window of Start
	// MaxSeries is the most series before it is an error; 0: no limit.
	MaxSeries int
}

// PartialSeries is the partial aggregates of one series, one per step that has
// rows. Counts, Values and Extras of sources whose rows are disjoint merge as the
// operator demands.
type PartialSeries struct {
	Labels model.Labels
	Steps  []uint32 // ascending
	Counts []uint64
	Values []float64 // sum, mean, minimum or maximum; nil where counts suffice
	Extras []float64 // sum of squared differences from the mean; nil where not needed
}

// ScanStats is what a scan or aggregate read.
type ScanStats struct {
	RowsRead, BytesRead, MetadataBytesRead, RowsFiltered uint64
}

// Add adds o to s.
func (s *ScanStats) Add(o ScanStats) {
	s.RowsRead += o.RowsRead
	s.BytesRead += o.BytesRead
	s.MetadataBytesRead += o.MetadataBytesRead
	s.RowsFiltered += o.RowsFiltered
}

func (s ScanStats) minus(o ScanStats) ScanStats {
	return ScanStats{s.RowsRead - o.RowsRead, s.BytesRead - o.BytesRead, s.MetadataBytesRead - o.MetadataBytesRead, s.RowsFiltered - o.RowsFiltered}
}
