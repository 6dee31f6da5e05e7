package querier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	defaultRange = time.Hour
	defaultLimit = 100
)

// parse parses a query within the tenant's limit.
func parse(text string, sc scope) (syntax.Expr, error) {
	if limit := int(sc.limits.MaxQueryText); len(text) > limit {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(text), limit)
	}
	if !utf8.ValidString(text) {
		return nil, rpcerr.New(rpcerr.ParseError, "parse error : the query is not valid UTF-8")
	}
	expr, err := syntax.ParseExpr(text)
	if err != nil {
		return nil, parseError(err)
	}
	if sc.limits.MaxUnselectiveQueryBytes == 0 {
		for _, s := range syntax.Selectors(expr) {
			if s.Bare {
				return nil, rpcerr.New(rpcerr.LimitExceeded, "searches without a stream selector are not allowed (max_unselective_query_bytes is 0); add one such as {app=\"…\"}")
			}
		}
	}
	return expr, nil
}

// parseError tells clients where in the text it is, too.
func parseError(err error) error {
	out := rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	if at, ok := errors.AsType[*syntax.ParseError](err); ok && at.Pos != (syntax.Pos{}) {
		out = out.With("line", strconv.Itoa(at.Pos.Line)).With("col", strconv.Itoa(at.Pos.Col))
	}
	return out
}

// times returns a range, with defaults filled in.
func times(start, end *timestamppb.Timestamp, now time.Time) (from, to time.Time, err error) {
	to = now
	if end != nil {
		if err := end.CheckValid(); err != nil {
			return from, to, rpcerr.New(rpcerr.InvalidArgument, "end: %v", err)
		}
		to = end.AsTime()
	}
	from = to.Add(-defaultRange)
	if to.After(now) {
		from = now.Add(-defaultRange)
	}
	if start != nil {
		if err := start.CheckValid(); err != nil {
			return from, to, rpcerr.New(rpcerr.InvalidArgument, "start: %v", err)
		}
		from = start.AsTime()
	}
	return from, to, nil
}

// The times that nanoseconds in an int64 can say, with room for ranges and offsets.
var (
	firstTime = time.Unix(0, -1<<62)
	lastTime  = time.Unix(0, 1<<62)
)

func nanos(t time.Time) int64 {
	switch {
	case t.Before(firstTime):
		return firstTime.UnixNano()
	case t.After(lastTime):
		return lastTime.UnixNano()
	}
	return t.UnixNano()
}

func (s *Service) base(expr syntax.Expr, sc scope, partial, cut bool) engine.Query {
	sources, complete := s.sources(sc, partial)
	return engine.Query{
		Expr: expr, Sources: sources, Complete: complete, Partial: partial, Split: s.split,
		Limits: engine.Limits{
			MaxSeries: sc.limits.MaxQuerySeries, CutSeries: cut || sc.limits.QuerySeriesOverflow == limits.CutSeries, MaxEntries: sc.limits.MaxQueryEntries,
			MaxPoints: sc.limits.MaxQueryPoints, MaxMemory: s.memory,
			MaxBareBytes: int64(sc.limits.MaxUnselectiveQueryBytes),
		},
	}
}

// Query implements queryv1.QueryServiceServer.
func (s *Service) Query(ctx context.Context, req *queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	expr, err := parse(req.GetQuery(), sc)
	if err != nil {
		return nil, err
	}
	at := sc.now
	if req.GetTime() != nil {
		if err := req.GetTime().CheckValid(); err != nil {
			return nil, rpcerr.New(rpcerr.InvalidArgument, "time: %v", err)
		}
		at = req.GetTime().AsTime()
	}
	ctx, place, done, err := s.begin(ctx, sc, work{text: req.GetQuery(), expr: expr, start: nanos(at), end: nanos(at)})
	if err != nil {
		return nil, err
	}
	defer done()
	q := s.base(expr, sc, req.GetPartial(), req.GetCutSeries())
	q.Progress = s.watch(place, nil)
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	var res *engine.Result
	err = rerun(ctx, q.Sources, func() bool { return false }, func() (err error) {
		res, err = s.engine.Instant(ctx, q, nanos(at))
		return err
	})
	if err != nil {
		return nil, s.toError(err)
	}
	out := &queryv1.QueryResponse{Statistics: statistics(res, place), Warnings: res.Warnings}
	if res.Type == engine.TypeScalar {
		out.Result = &queryv1.QueryResponse_Scalar{Scalar: &queryv1.Scalar{Sample: sample(res.Scalar)}}
	} else {
		out.Result = &queryv1.QueryResponse_Vector{Vector: vector(res.Vector)}
	}
	return out, nil
}

// rangeQuery checks a request and fills in its defaults.
func (s *Service) rangeQuery(req *queryv1.QueryRangeRequest, sc scope) (engine.RangeQuery, error) {
	expr, err := parse(req.GetQuery(), sc)
	if err != nil {
		return engine.RangeQuery{}, err
	}
	start, end, err := times(req.GetStart(), req.GetEnd(), sc.now)
	if err != nil {
		return engine.RangeQuery{}, err
	}
	if length := end.Sub(start); length > sc.limits.MaxQueryRange {
		return engine.RangeQuery{}, rpcerr.New(rpcerr.LimitExceeded, "the query time range exceeds the limit (query length: %s, limit: %s)", length, durationText(sc.limits.MaxQueryRange))
	}
	if req.GetStep() != nil && req.GetStep().CheckValid() != nil || req.GetInterval() != nil && req.GetInterval().CheckValid() != nil {
		return engine.RangeQuery{}, rpcerr.New(rpcerr.InvalidArgument, "step or interval is out of range")
	}
	if _, ok := queryv1.Direction_name[int32(req.GetDirection())]; !ok {
		return engine.RangeQuery{}, rpcerr.New(rpcerr.InvalidArgument, "direction %d is not known", req.GetDirection())
	}
	q := engine.RangeQuery{
		Query: s.base(expr, sc, req.GetPartial(), req.GetCutSeries()),
		Start: nanos(start), End: nanos(end),
		Limit: int(req.GetLimit()), Backward: req.GetDirection() != queryv1.Direction_DIRECTION_FORWARD,
		Interval: req.GetInterval().AsDuration(), Cursor: req.GetCursor(),
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	if !req.GetNoCache() && sc.parts == nil { // each of several has its own deletes
		q.Cache, q.CacheOwner = s.results, sc.tenant
	}
	if req.GetStep() != nil {
		q.Step = req.GetStep().AsDuration()
	} else {
		q.Step = max(end.Sub(start)/250, time.Second).Truncate(time.Second)
	}
	return q, nil
}

// QueryRange implements queryv1.QueryServiceServer.
func (s *Service) QueryRange(ctx context.Context, req *queryv1.QueryRangeRequest) (*queryv1.QueryRangeResponse, error) {
	res, place, err := s.runRange(ctx, req, nil, nil)
	if err != nil {
		return nil, err
	}
	out := &queryv1.QueryRangeResponse{Statistics: statistics(res, place), Warnings: res.Warnings, NextCursor: res.NextCursor}
	if res.Type == engine.TypeStreams {
		out.Result = &queryv1.QueryRangeResponse_Streams{Streams: streams(res.Streams)}
	} else {
		out.Result = &queryv1.QueryRangeResponse_Matrix{Matrix: matrix(res.Matrix)}
	}
	return out, nil
}

func (s *Service) runRange(ctx context.Context, req *queryv1.QueryRangeRequest, progress func(engine.Progress), emit func([]engine.LogStream) error) (*engine.Result, *active, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, nil, err
	}
	q, err := s.rangeQuery(req, sc)
	if err != nil {
		return nil, nil, err
	}
	given := false
	if emit != nil {
		q.Emit = func(found []engine.LogStream) error { given = true; return emit(found) }
	}
	ctx, place, done, err := s.begin(ctx, sc, work{text: req.GetQuery(), expr: q.Expr, start: q.Start, end: q.End, limit: q.Limit})
	if err != nil {
		return nil, nil, err
	}
	defer done()
	q.Progress = s.watch(place, progress)
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, nil, err
	}
	var res *engine.Result
	err = rerun(ctx, q.Sources, func() bool { return given }, func() (err error) {
		res, err = s.engine.Range(ctx, q)
		return err
	})
	return res, place, s.toError(err)
}

// QueryStream implements queryv1.QueryServiceServer.
func (s *Service) QueryStream(req *queryv1.QueryStreamRequest, stream queryv1.QueryService_QueryStreamServer) error {
	if req.GetQuery() == nil {
		return rpcerr.New(rpcerr.InvalidArgument, "query is missing")
	}
	var mu sync.Mutex // progress and entries come from different goroutines
	send := func(m *queryv1.QueryStreamResponse) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(m)
	}
	res, place, err := s.runRange(stream.Context(), req.GetQuery(), func(p engine.Progress) {
		// The client's going is seen by the query itself.
		_ = send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Progress{Progress: &queryv1.Progress{
			BytesRead: p.BytesRead, BytesTotal: p.BytesTotal, EntriesRead: p.EntriesRead, EntriesMatched: p.EntriesMatched,
		}}})
	}, func(found []engine.LogStream) error {
		return pages(found, func(page []engine.LogStream) error {
			return send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Streams{Streams: streams(page)}})
		})
	})
	if err != nil {
		return err
	}
	if res.Type != engine.TypeStreams {
		err := matrixPages(res.Matrix, func(page []engine.Series) error {
			return send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Matrix{Matrix: matrix(page)}})
		})
		if err != nil {
			return err
		}
	}
	return stream.Send(&queryv1.QueryStreamResponse{Event: &queryv1.QueryStreamResponse_Done{Done: &queryv1.Done{
		Statistics: statistics(res, place), Warnings: res.Warnings, NextCursor: res.NextCursor,
	}}})
}

// FormatQuery implements queryv1.QueryServiceServer.
func (s *Service) FormatQuery(ctx context.Context, req *queryv1.FormatQueryRequest) (*queryv1.FormatQueryResponse, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	expr, err := parse(req.GetQuery(), sc)
	if err != nil {
		return nil, err
	}
	return &queryv1.FormatQueryResponse{Query: syntax.Pretty(expr)}, nil
}

func statistics(r *engine.Result, a *active) *queryv1.Statistics {
	st := r.Statistics
	return &queryv1.Statistics{
		ExecutionTime: durationpb.New(st.Duration), QueueTime: durationpb.New(a.waited),
		BytesProcessed: st.BytesRead, StructuredMetadataBytesProcessed: st.MetadataBytesRead,
		EntriesProcessed: st.EntriesRead, EntriesPostFilter: st.EntriesPostFilter, EntriesReturned: st.EntriesReturned,
		StreamsMatched: st.StreamsMatched, Sources: uint32(st.Sources), RunsSkipped: st.RunsSkipped,
		ResultCache: &queryv1.ResultCache{
			Requested: st.Cache.Requested, Found: st.Cache.Found, Stored: st.Cache.Stored,
			BytesFound: st.Cache.BytesFound, BytesStored: st.Cache.BytesStored, LengthFound: durationpb.New(st.Cache.Length),
		},
	}
}

func sample(p engine.Point) *queryv1.Sample {
	return &queryv1.Sample{TimestampUnixNano: p.Time, Value: p.Value}
}

func vector(in []engine.Sample) *queryv1.Vector {
	out := &queryv1.Vector{Samples: make([]*queryv1.VectorSample, len(in))}
	for i, v := range in {
		out.Samples[i] = &queryv1.VectorSample{Labels: labelMap(v.Labels), Sample: sample(v.Point)}
	}
	return out
}

func matrix(in []engine.Series) *queryv1.Matrix {
	out := &queryv1.Matrix{Series: make([]*queryv1.Series, len(in))}
	for i, s := range in {
		ser := &queryv1.Series{Labels: labelMap(s.Labels), Samples: make([]*queryv1.Sample, len(s.Points))}
		slab := make([]queryv1.Sample, len(s.Points))
		for k, p := range s.Points {
			slab[k].TimestampUnixNano, slab[k].Value = p.Time, p.Value
			ser.Samples[k] = &slab[k]
		}
		out.Series[i] = ser
	}
	return out
}

func streams(in []engine.LogStream) *queryv1.Streams {
	out := &queryv1.Streams{Streams: make([]*queryv1.LogStream, len(in))}
	for i, s := range in {
		st := &queryv1.LogStream{Labels: labelMap(s.Labels), Entries: make([]*queryv1.LogEntry, len(s.Entries))}
		for k := range s.Entries {
			e := &s.Entries[k]
			st.Entries[k] = entry(e.Time, e.Line)
			st.Entries[k].StructuredMetadata, st.Entries[k].Parsed = labelMap(e.Metadata), labelMap(e.Parsed)
		}
		out.Streams[i] = st
	}
	return out
}

func entry(t int64, line []byte) *queryv1.LogEntry {
	e := &queryv1.LogEntry{TimestampUnixNano: t}
	if utf8.Valid(line) {
		e.Line = &queryv1.LogEntry_Text{Text: string(line)}
	} else {
		e.Line = &queryv1.LogEntry_Raw{Raw: bytes.Clone(line)}
	}
	return e
}

// durationText prints like Prometheus: 30d1h.
func durationText(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	ms := d.Milliseconds()
	for _, u := range []struct {
		name  string
		size  int64
		exact bool
	}{{"y", 365 * 24 * 3600_000, true}, {"w", 7 * 24 * 3600_000, true}, {"d", 24 * 3600_000, false},
		{"h", 3600_000, false}, {"m", 60_000, false}, {"s", 1000, false}, {"ms", 1, false}} {
		if u.exact && ms%u.size != 0 {
			continue
		}
		if n := ms / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			ms -= n * u.size
		}
	}
	return b.String()
}
