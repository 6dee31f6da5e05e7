// Package remote carries engine.Source over gRPC: NewSource is the client's end,
// Serve the server's, of weir.ingest.v1.IngestService.Read. The tenant travels in
// the metadata of the call and is no business of this package.
package remote

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// silence is how long a server may say nothing while it is listened to. One that
// works says something every heartbeat, so that one that hangs is given up long
// before the query's own time is over.
var silence = 5 * time.Second // less in tests

// NewSource returns the source that a server has. The context of Open must
// outlive its session, and ends it. opts are those of each call. Sessions have an
// Opened method that tells what the server said of itself.
func NewSource(name string, client ingestv1.IngestServiceClient, opts ...grpc.CallOption) engine.Source {
	return &source{name, client, opts}
}

type source struct {
	name   string
	client ingestv1.IngestServiceClient
	opts   []grpc.CallOption
}

func (s *source) Name() string { return s.name }

func (s *source) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	ses := &session{ctx: ctx, cancel: cancel, memory: engine.MemoryOf(ctx)}
	err := ses.patiently(func() (err error) {
		ses.call, err = s.client.Read(ctx, s.opts...)
		return err
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	excluded := engine.ExcludedOf(ctx)
	if err := ses.open(&ingestv1.Open{
		Selector: selectorText(matchers), Start: start, End: end, Spans: engine.Spans(ctx), Excluded: toExcluded(excluded),
	}); err != nil {
		ses.Close()
		return nil, err
	}
	if excluded != nil && ses.opened.GetExcluded() != excluded.Version {
		ses.Close()
		return nil, fmt.Errorf("it does not leave out what was deleted: its set is %q, not %q", ses.opened.GetExcluded(), excluded.Version)
	}
	return ses, nil
}

type session struct {
	call    ingestv1.IngestService_ReadClient
	ctx     context.Context // of the call
	cancel  context.CancelCauseFunc
	streams []engine.Stream
	memory  *engine.Memory // of the query; may be nil
	claimed int            // of it, for streams
	opened  *ingestv1.Opened
	broken  error // the call ended
}

func (s *session) open(open *ingestv1.Open) error {
	err := s.send(&ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Open{Open: open}})
	if err != nil {
		return err
	}
	for {
		msg, err := s.recv()
		if err != nil {
			return err
		}
		switch piece := msg.GetPiece().(type) {
		case *ingestv1.ReadResponse_Streams:
			err := s.addStreams(piece.Streams)
			if err == nil {
				err = s.claim(piece.Streams)
			}
			if err != nil {
				return s.fail(err)
			}
		case *ingestv1.ReadResponse_Opened:
			s.opened = piece.Opened
			return nil
		default:
			return s.fail(fmt.Errorf("unexpected %T before opened", piece))
		}
	}
}

// claim counts the streams of a message towards the query's memory.
func (s *session) claim(m *ingestv1.StreamRuns) error {
	size := int(unsafe.Sizeof(engine.Run{})) * len(m.GetRuns())
	for _, st := range s.streams[len(s.streams)-len(m.GetLabels()):] {
		size += streamSize
		for _, l := range st.Labels {
			size += int(unsafe.Sizeof(l)) + len(l.Name) + len(l.Value)
		}
	}
	if !s.memory.Claim(size) {
		return s.memory.Err()
	}
	s.claimed += size
	return nil
}

// streamSize is the bytes of a stream in a list that has grown to hold it: a quarter of that
// is room.
const streamSize = int(unsafe.Sizeof(engine.Stream{})) * 5 / 4

func (s *session) addStreams(m *ingestv1.StreamRuns) error {
	runs := m.GetRuns()
	if len(m.GetRunCounts()) != len(m.GetLabels()) {
		return fmt.Errorf("%d counts of runs for %d streams", len(m.GetRunCounts()), len(m.GetLabels()))
	}
	for i, text := range m.GetLabels() {
		labels, err := parseLabels(text)
		if err != nil {
			return err
		}
		if n := len(s.streams); n > 0 && s.streams[n-1].Labels.Compare(labels) >= 0 {
			return fmt.Errorf("stream %s is out of order", text)
		}
		n := int(m.GetRunCounts()[i])
		if n > len(runs) {
			return fmt.Errorf("stream %s lacks runs", text)
		}
		st := engine.Stream{Labels: labels, Runs: make([]engine.Run, n)}
		for j, r := range runs[:n] {
			st.Runs[j] = engine.Run{MinTime: r.GetMinTime(), MaxTime: r.GetMaxTime(), Rows: r.GetRows(), Bytes: r.GetBytes(), Digest: r.GetDigest()}
			if r.GetMinTime() > r.GetMaxTime() || (j > 0 && st.Runs[j-1].MaxTime >= r.GetMinTime()) {
				return fmt.Errorf("runs of stream %s are out of order", text)
			}
		}
		runs = runs[n:]
		s.streams = append(s.streams, st)
	}
	return nil
}

// Opened is what the server said of itself: its incarnation, the version of its
// member table, its gaps.
func (s *session) Opened() *ingestv1.Opened { return s.opened }

func (s *session) Streams() []engine.Stream { return s.streams }
func (s *session) Gaps() []string           { return s.opened.GetGaps() }

// Close ends the call.
func (s *session) Close() error {
	s.cancel(nil)
	s.memory.Unclaim(s.claimed)
	s.claimed = 0
	return nil
}

func (s *session) fail(err error) error {
	if s.broken == nil {
		s.broken = err
		s.cancel(nil)
	}
	return err
}

// patiently makes a call of gRPC, and ends the session if that takes too long.
func (s *session) patiently(f func() error) error {
	stop := s.watch(func(after time.Duration) {
		s.cancel(rpcerr.New(rpcerr.Unavailable, "no word from it for %s", after))
	})
	err := f()
	stop()
	if err == nil {
		return nil
	}
	if cause := context.Cause(s.ctx); rpcerr.Is(cause, rpcerr.Unavailable) {
		return cause
	}
	return fromError(err)
}

func (s *session) send(req *ingestv1.ReadRequest) error {
	if s.broken != nil {
		return s.broken
	}
	err := s.patiently(func() error {
		err := s.call.Send(req)
		if err != nil {
			// The reason comes with the next receive.
			if _, rerr := s.call.Recv(); rerr != nil {
				err = rerr
			}
		}
		return err
	})
	if err != nil {
		return s.fail(err)
	}
	return nil
}

func (s *session) recv() (*ingestv1.ReadResponse, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	var msg *ingestv1.ReadResponse
	err := s.patiently(func() (err error) {
		msg, err = s.call.Recv()
		return err
	})
	if err != nil {
		return nil, s.fail(err)
	}
	return msg, nil
}

func (s *session) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	starts, ends := unzip(req.Ranges)
	scan := &ingestv1.Scan{
		Query: req.Query.String(), Streams: indices[uint32](req.Streams), Start: req.Start, End: req.End,
		Limit: uint32(req.Limit), Backward: req.Backward, Identity: req.Identity, RangeStarts: starts, RangeEnds: ends,
		Distinct: req.Distinct,
	}
	if req.Streams != nil && len(req.Streams) == 0 {
		return engine.ScanStats{}, nil // an empty list would mean all
	}
	if a := req.After; a != nil {
		scan.After = &ingestv1.OrderKey{Time: a.Key.Time, BatchTime: a.Key.BatchTime, Position: a.Key.Position, Hash: a.Key.Hash}
		scan.AfterStream = a.Stream.String()
	}
	if err := s.send(&ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Scan{Scan: scan}}); err != nil {
		return engine.ScanStats{}, err
	}
	_, log := req.Query.(*syntax.LogSelector)
	var rows engine.ScanRows
	var stopped error
	for {
		msg, err := s.recv()
		if err != nil {
			return engine.ScanStats{}, err
		}
		switch piece := msg.GetPiece().(type) {
		case *ingestv1.ReadResponse_Rows:
			if stopped != nil {
				continue // the rest of the answer is in the way of the next step
			}
			if err := decodeRows(&rows, piece.Rows, len(s.streams), !log, req.Identity); err != nil {
				return engine.ScanStats{}, s.fail(err)
			}
			if len(rows.Times) > 0 {
				stopped = yield(&rows)
			}
		case *ingestv1.ReadResponse_Done:
			stats := fromStats(piece.Done)
			engine.AddProgress(ctx, stats)
			return stats, stopped
		default:
			return engine.ScanStats{}, s.fail(fmt.Errorf("unexpected %T in a scan", piece))
		}
	}
}

func (s *session) Aggregate(ctx context.Context, req engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	if req.Streams != nil && len(req.Streams) == 0 {
		return nil, engine.ScanStats{}, nil
	}
	starts, ends := unzip(req.Ranges)
	err := s.send(&ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Aggregate{Aggregate: &ingestv1.Aggregate{
		Query: req.Query.String(), Streams: indices[uint32](req.Streams), Start: req.Start, End: req.End,
		Step: req.Step, MaxSeries: uint32(req.MaxSeries), RangeStarts: starts, RangeEnds: ends,
	}}})
	if err != nil {
		return nil, engine.ScanStats{}, err
	}
	var out []engine.PartialSeries
	for {
		msg, err := s.recv()
		if err != nil {
			return nil, engine.ScanStats{}, err
		}
		switch piece := msg.GetPiece().(type) {
		case *ingestv1.ReadResponse_Partials:
			for _, p := range piece.Partials.GetSeries() {
				out = append(out, engine.PartialSeries{
					Labels: fromPairs(p.GetLabels()), Steps: p.GetSteps(), Counts: p.GetCounts(), Values: p.GetValues(), Extras: p.GetExtras(),
				})
			}
		case *ingestv1.ReadResponse_Done:
			stats := fromStats(piece.Done)
			engine.AddProgress(ctx, stats)
			return out, stats, nil
		default:
			return nil, engine.ScanStats{}, s.fail(fmt.Errorf("unexpected %T in an aggregation", piece))
		}
	}
}

func (s *session) Patterns(ctx context.Context, req engine.PatternsRequest) ([]engine.PatternCount, engine.ScanStats, error) {
	if req.Streams != nil && len(req.Streams) == 0 {
		return nil, engine.ScanStats{}, nil
	}
	starts, ends := unzip(req.Ranges)
	err := s.send(&ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Patterns{Patterns: &ingestv1.Patterns{
		Query: req.Query.String(), Streams: indices[uint32](req.Streams), Start: req.Start, End: req.End, Width: req.Width,
		RangeStarts: starts, RangeEnds: ends,
	}}})
	if err != nil {
		return nil, engine.ScanStats{}, err
	}
	var out []engine.PatternCount
	for {
		msg, err := s.recv()
		if err != nil {
			return nil, engine.ScanStats{}, err
		}
		switch piece := msg.GetPiece().(type) {
		case *ingestv1.ReadResponse_Patterns:
			for _, p := range piece.Patterns.GetPatterns() {
				out = append(out, engine.PatternCount{Service: p.GetService(), Text: p.GetText(), Level: p.GetLevel(), Buckets: p.GetBuckets(), Lines: p.GetLines()})
			}
		case *ingestv1.ReadResponse_Done:
			stats := fromStats(piece.Done)
			engine.AddProgress(ctx, stats)
			return out, stats, nil
		default:
			return nil, engine.ScanStats{}, s.fail(fmt.Errorf("unexpected %T among patterns", piece))
		}
	}
}
