package engine

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/patterns"
)

// Options is what an Engine needs.
type Options struct {
	// Now is the clock, for measuring; nil: time.Now.
	Now func() time.Time
	// Registerer gets the metrics; nil: none.
	Registerer prometheus.Registerer
}

// Engine runs queries. It is safe for concurrent use.
type Engine struct {
	now     func() time.Time
	metrics *metrics
}

// New makes an Engine.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Engine{now: o.Now, metrics: newMetrics(o.Registerer)}
}

// Limits bound one query. 0: no limit.
type Limits struct {
	MaxSeries  int   // of a metric result, and of each operand of a binary operation
	CutSeries  bool  // of a result of more series MaxSeries are kept, with a warning
	MaxEntries int   // that a log query may ask for
	MaxPoints  int   // per series
	MaxMemory  int64 // bytes that the query may hold at once
	// MaxBareBytes is the bytes of lines that a search without a selector may read.
	MaxBareBytes int64
}

// DefaultLimits are the limits of a tenant that has none of its own.
func DefaultLimits() Limits {
	return Limits{MaxSeries: 500, MaxEntries: 5000, MaxPoints: 11000, MaxMemory: 512 << 20}
}

// Query is what all kinds of queries have.
type Query struct {
	Expr    syntax.Expr
	Sources []Source
	Limits  Limits
	// Complete judges whether an answer is complete without the sources of these
	// names, which failed; nil: never.
	Complete func(missing []string) error
	// Partial accepts an answer that is not complete; it has warnings then.
	Partial bool
	// Excluded is what the answer may not hold, nil: nothing.
	Excluded *Excluded
	// Split is the range of time beyond which a query is split by time; 0: it never is.
	Split time.Duration
	// Progress, if set, is called about once a second, from one goroutine at a
	// time, and not after the query is done.
	Progress func(Progress)
	// Cache remembers parts of the answers to range queries, for CacheOwner alone; nil:
	// nothing is remembered.
	Cache      *ResultCache
	CacheOwner string
}

// RangeQuery is a query over a range of time.
type RangeQuery struct {
	Query
	// Start (inclusive) and End, in nanoseconds since the Unix epoch. End is
	// exclusive for log queries. Metric queries have points at the multiples of
	// Step from Start, rounded down to one, to End, rounded up.
	Start, End int64
	Step       time.Duration // of metric queries
	// Of log queries:
	Limit    int // most entries; 0: all, where there is no limit to that
	Backward bool
	// Interval leaves out entries that are nearer than this to the last one given
	// out. 0: none.
	Interval time.Duration
	Cursor   string // NextCursor of the page before
	// Emit, if set, gets entries as soon as their place in the order is certain,
	// instead of the result's Streams. All calls together are the answer; each has
	// entries behind those of the calls before. It is called from one goroutine at
	// a time; an error ends the query.
	Emit func([]LogStream) error
}

// Progress is how far a query is.
type Progress struct {
	// BytesRead is bytes of lines and metadata; BytesTotal is what the query
	// covers, as far as is known.
	BytesRead, MetadataBytesRead, BytesTotal uint64
	EntriesRead, EntriesMatched              uint64
}

// Result is the answer to a query: one of Streams, Matrix, Vector, Scalar and
// Patterns, as Type says.
type Result struct {
	Type     ResultType
	Streams  []LogStream
	Matrix   []Series
	Vector   []Sample
	Scalar   Point
	Patterns []patterns.Pattern

	Statistics Statistics
	// Warnings name what is missing.
	Warnings []string
	// Excluded is the version of the query's set of that name.
	Excluded string
	// NextCursor leads to the next page of a log query; "": there is none.
	NextCursor string
}

// ResultType is the type of a result.
type ResultType uint8

// Types of results.
const (
	TypeStreams ResultType = iota
	TypeMatrix
	TypeVector
	TypeScalar
	TypePatterns
)

// LogStream is entries whose stream has these labels behind the query's stages,
// in the asked direction.
type LogStream struct {
	Labels  model.Labels
	Entries []Entry
}

// Entry is a log line of a result.
type Entry struct {
	Time     int64
	Line     []byte
	Metadata model.Labels // structured metadata, what servers derived included
	Parsed   model.Labels // made by the query's stages
}

// Point is a value at a time in nanoseconds since the Unix epoch.
type Point struct {
	Time  int64
	Value float64
}

// Series is the points of a series, only where it has a value.
type Series struct {
	Labels model.Labels
	Points []Point
}

// Sample is a series at one instant.
type Sample struct {
	Labels model.Labels
	Point
}

// Statistics is what a query cost.
type Statistics struct {
	Duration          time.Duration
	BytesRead         uint64 // of lines and metadata
	MetadataBytesRead uint64
	EntriesRead       uint64 // about, where a query begins or ends within a run
	EntriesPostFilter uint64
	EntriesReturned   uint64
	StreamsMatched    uint64 // at least
	Sources           int
	RunsSkipped       uint64
	PeakMemory        int64
	Cache             CacheStats
}

// query is a query that runs.
type query struct {
	Query
	engine *Engine
	mem    *Memory
	live   *live

	// Steps of a metric query.
	start, end, step int64

	mu       sync.Mutex
	stats    ScanStats
	streams  uint64
	skipped  uint64
	warnings []string

	cacheStats CacheStats

	lostMu      sync.Mutex
	lostSources []string
	lostCauses  []error // of lostSources

	legs chan struct{} // one for each operand that is evaluated beside another
}

// maxLegs is how many operands of binary operations are evaluated at once.
const maxLegs = 4

func (q *query) warn(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.warnings, text) && len(q.warnings) < 100 {
		q.warnings = append(q.warnings, text)
	}
}

func (q *query) addStats(s ScanStats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Add(s)
}

// count adds what opened sources hold, and returns its bytes.
func (q *query) count(o *opened, cover *coverage) (bytes uint64) {
	streams := len(o.union)
	for i := range o.chain {
		streams = max(streams, o.chain[i].least())
		bytes += o.chain[i].Bytes
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range o.union {
		q.skipped += uint64(o.union[i].skipped)
		bytes += o.union[i].bytes
	}
	q.streams += cover.more(uint64(streams))
	q.live.total.Add(bytes)
	return bytes
}

// run prepares a query, runs f, and fills in what all results have.
func (e *Engine) run(ctx context.Context, in Query, f func(context.Context, *query) (*Result, error)) (*Result, error) {
	begin := e.now()
	q := &query{Query: in, engine: e, mem: NewMemory(in.Limits.MaxMemory), live: &live{}, legs: make(chan struct{}, maxLegs-1)}
	ctx = WithExcluded(withLive(WithMemory(ctx, q.mem), q.live), in.Excluded)
	res, err := func() (*Result, error) {
		defer q.live.report(in.Progress)() // no longer, also if f panics
		return f(ctx, q)
	}()
	if refused := q.mem.Err(); refused != nil {
		err = refused // whatever came of it
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // whatever failed did so because of that
	}
	e.metrics.observe(q, e.now().Sub(begin), err)
	if err != nil {
		return nil, err
	}
	res.Warnings = q.warnings
	if in.Excluded != nil {
		res.Excluded = in.Excluded.Version
	}
	res.Statistics.Duration = e.now().Sub(begin)
	res.Statistics.BytesRead = q.stats.BytesRead
	res.Statistics.MetadataBytesRead = q.stats.MetadataBytesRead
	res.Statistics.EntriesRead = q.stats.RowsRead
	res.Statistics.EntriesPostFilter = q.stats.RowsFiltered
	res.Statistics.StreamsMatched = q.streams
	res.Statistics.Sources = len(in.Sources)
	res.Statistics.RunsSkipped = q.skipped
	res.Statistics.PeakMemory = q.mem.Peak()
	res.Statistics.Cache = q.cacheStats
	return res, nil
}

// Instant evaluates a metric query at a time.
func (e *Engine) Instant(ctx context.Context, in Query, at int64) (*Result, error) {
	if _, ok := in.Expr.(*syntax.LogSelector); ok {
		return nil, Errorf(ErrUser, "log queries are not supported as an instant query type, please change your query to a range query type")
	}
	if at < minTime || at > maxTime {
		return nil, Errorf(ErrUser, "the time is too far from the present")
	}
	return e.run(ctx, in, func(ctx context.Context, q *query) (*Result, error) {
		q.start, q.end = at, at
		if value, ok := q.scalar(in.Expr); ok {
			return &Result{Type: TypeScalar, Scalar: Point{at, value(0)}}, nil
		}
		return q.instant(ctx)
	})
}

// Range evaluates a query over a range of time.
func (e *Engine) Range(ctx context.Context, in RangeQuery) (*Result, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return e.run(ctx, in.Query, func(ctx context.Context, q *query) (*Result, error) {
		return q.ranged(ctx, &in)
	})
}

func (q *query) ranged(ctx context.Context, in *RangeQuery) (*Result, error) {
	if sel, ok := in.Expr.(*syntax.LogSelector); ok {
		return q.logs(ctx, sel, in)
	}
	q.start, q.end, q.step = alignSteps(in.Start, in.End, int64(in.Step))
	return q.matrix(ctx)
}

// check refuses what no data can make valid.
func (r *RangeQuery) check() error {
	if r.Start < minTime || r.End > maxTime {
		return Errorf(ErrUser, "start or end are too far from the present")
	}
	if r.End < r.Start {
		return Errorf(ErrUser, "end timestamp must not be before or equal to start time")
	}
	if r.End-r.Start > maxSpan {
		return Errorf(ErrUser, "start and end are too far from each other")
	}
	if !syntax.IsMetric(r.Expr) {
		switch {
		case r.Limit < 0 || (r.Limit == 0 && r.Limits.MaxEntries > 0):
			return Errorf(ErrUser, "limit must be a positive value")
		case r.Limits.MaxEntries > 0 && r.Limit > r.Limits.MaxEntries:
			return Errorf(ErrLimit, "max entries limit per query exceeded, limit > max_entries_limit_per_query (%d > %d)", r.Limit, r.Limits.MaxEntries)
		case r.Interval < 0:
			return Errorf(ErrUser, "interval must be >= 0")
		}
		return nil
	}
	if r.Step <= 0 {
		return Errorf(ErrUser, "zero or negative query resolution step widths are not accepted. Try a positive integer")
	}
	if n := (r.End - r.Start) / int64(r.Step); r.Limits.MaxPoints > 0 && n > int64(r.Limits.MaxPoints) {
		return Errorf(ErrLimit, "exceeded maximum resolution of %s points per time series. Try increasing the value of the step parameter", thousands(r.Limits.MaxPoints))
	}
	return nil
}

// thousands prints a number as 11,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// alignSteps rounds start down and end up to multiples of step.
func alignSteps(start, end, step int64) (int64, int64, int64) {
	floor := func(t int64) int64 {
		r := t % step
		if r < 0 {
			r += step
		}
		return t - r
	}
	aligned := floor(end)
	if aligned < end {
		aligned += step
	}
	return floor(start), aligned, step
}
