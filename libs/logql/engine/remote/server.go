package remote

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// messageBytes is when a message is sent. What is added last may take it beyond,
// by a row or a series.
const messageBytes = 512 << 10

// Options is what a server says of itself, and its limits.
type Options struct {
	Incarnation  string
	TableVersion uint64
	// Memory is the most bytes that one call may hold at once; 0: no limit.
	Memory int64
	// Refused, if not nil, is called when a call ended as it would have held more.
	Refused func()
}

// Uploader is a session that knows which blocks its source has uploaded lately.
type Uploader interface {
	// Uploaded returns their keys, of those that may hold rows of the session's range.
	Uploaded() []string
}

// heartbeat is how often a server that has nothing to say yet says so.
var heartbeat = time.Second // less in tests

// answers is the server's end of a call. Its Send may be called while beat runs.
type answers struct {
	ingestv1.IngestService_ReadServer
	mu   sync.Mutex // held while something is sent
	last time.Time  // when that was
}

func (a *answers) Send(m *ingestv1.ReadResponse) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = time.Now()
	return a.IngestService_ReadServer.Send(m)
}

// beat sends empty, a message that says nothing, whenever nothing else was sent for
// a while. The function that it returns ends that.
func (a *answers) beat(empty *ingestv1.ReadResponse) (stop func()) {
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-end:
				return
			}
			// A send that waits for the client to read is a sign of life too.
			if !a.mu.TryLock() {
				continue
			}
			if time.Since(a.last) >= heartbeat {
				// The message is used again: nobody changes it.
				_ = a.IngestService_ReadServer.Send(empty) // the next answer will tell
			}
			a.mu.Unlock()
		}
	})
	return func() { close(end); running.Wait() }
}

// beating runs f, and beats meanwhile, but no longer, also if it panics.
func (a *answers) beating(empty *ingestv1.ReadResponse, f func() error) error {
	defer a.beat(empty)()
	return f()
}

var (
	noStreams  = &ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Streams{Streams: &ingestv1.StreamRuns{}}}
	noRows     = &ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Rows{Rows: &ingestv1.Rows{}}}
	noPatterns = &ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Patterns{Patterns: &ingestv1.PatternCounts{}}}
	noPartials = &ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Partials{Partials: &ingestv1.Partials{}}}
)

// Serve answers a Read call from a source, which is the caller's tenant's. Its
// error is a *rpcerr.Error.
func Serve(stream ingestv1.IngestService_ReadServer, src engine.Source, opts Options) error {
	err := serve(&answers{IngestService_ReadServer: stream}, src, opts)
	if errors.Is(err, engine.ErrMemory) && opts.Refused != nil {
		opts.Refused()
	}
	return ToError(err)
}

func serve(stream *answers, src engine.Source, opts Options) error {
	// Of a caller in this process it is the context of the query, which counts the answer.
	memory := engine.NewMemory(opts.Memory)
	ctx := engine.WithoutProgress(engine.WithMemory(stream.Context(), memory))
	msg, err := stream.Recv()
	if err != nil {
		return err
	}
	open := msg.GetOpen()
	if open == nil {
		return engine.Errorf(engine.ErrUser, "the first step must be open")
	}
	matchers, err := syntax.ParseSelector(open.GetSelector())
	if err != nil {
		return err
	}
	if open.GetSpans() {
		ctx = engine.WithSpans(ctx)
	}
	excluded, err := fromExcluded(open.GetExcluded())
	if err != nil {
		return err
	}
	ctx = engine.WithExcluded(ctx, excluded)
	var session engine.Session
	err = stream.beating(noStreams, func() (err error) {
		session, err = src.Open(ctx, matchers, open.GetStart(), open.GetEnd())
		return err
	})
	if err != nil {
		return err
	}
	defer session.Close()
	streams := session.Streams()
	if err := memory.Err(); err != nil {
		return err // streams may not be all
	}
	if err := sendStreams(stream, streams); err != nil {
		return err
	}
	opened := &ingestv1.Opened{Incarnation: opts.Incarnation, TableVersion: opts.TableVersion, Gaps: session.Gaps(), Excluded: open.GetExcluded().GetVersion()}
	if u, ok := session.(Uploader); ok {
		opened.UploadedBlocks = u.Uploaded()
	}
	err = stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Opened{Opened: opened}})
	if err != nil {
		return err
	}
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var stats engine.ScanStats
		switch step := msg.GetStep().(type) {
		case *ingestv1.ReadRequest_Scan:
			err = stream.beating(noRows, func() (err error) {
				stats, err = scan(ctx, stream, session, step.Scan)
				return err
			})
		case *ingestv1.ReadRequest_Aggregate:
			err = stream.beating(noPartials, func() (err error) {
				stats, err = aggregate(ctx, stream, session, step.Aggregate)
				return err
			})
		case *ingestv1.ReadRequest_Patterns:
			err = stream.beating(noPatterns, func() (err error) {
				stats, err = patterns(ctx, stream, session, step.Patterns)
				return err
			})
		default:
			err = engine.Errorf(engine.ErrUser, "unknown step, or a second open")
		}
		if err == nil {
			err = memory.Err() // what was sent may not be all
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Done{Done: toStats(stats)}}); err != nil {
			return err
		}
	}
}

func sendStreams(stream ingestv1.IngestService_ReadServer, streams []engine.Stream) error {
	m, size := &ingestv1.StreamRuns{}, 0
	flush := func() error {
		if len(m.Labels) == 0 {
			return nil
		}
		out := m
		m, size = &ingestv1.StreamRuns{}, 0
		return stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Streams{Streams: out}})
	}
	for _, st := range streams {
		text := st.Labels.String()
		m.Labels = append(m.Labels, text)
		m.RunCounts = append(m.RunCounts, uint32(len(st.Runs)))
		for _, r := range st.Runs {
			m.Runs = append(m.Runs, &ingestv1.Run{MinTime: r.MinTime, MaxTime: r.MaxTime, Rows: r.Rows, Bytes: r.Bytes, Digest: r.Digest})
		}
		if size += len(text) + 16 + 48*len(st.Runs); size >= messageBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func parseQuery(text string) (syntax.Expr, error) { return syntax.ParseCanonical(text) }

func scan(ctx context.Context, stream ingestv1.IngestService_ReadServer, session engine.Session, in *ingestv1.Scan) (engine.ScanStats, error) {
	query, err := parseQuery(in.GetQuery())
	if err != nil {
		return engine.ScanStats{}, err
	}
	ranges, err := zip(in.GetRangeStarts(), in.GetRangeEnds())
	if err != nil {
		return engine.ScanStats{}, err
	}
	req := engine.ScanRequest{
		Query: query, Streams: indices[int](in.GetStreams()), Ranges: ranges, Start: in.GetStart(), End: in.GetEnd(),
		Limit: int(in.GetLimit()), Backward: in.GetBackward(), Identity: in.GetIdentity(), Distinct: in.GetDistinct(),
	}
	if k := in.GetAfter(); k != nil {
		labels, err := parseLabels(in.GetAfterStream())
		if err != nil {
			return engine.ScanStats{}, engine.Errorf(engine.ErrUser, "after_stream: %s", err)
		}
		req.After = &engine.After{Stream: labels, Key: model.OrderKey{Time: k.GetTime(), BatchTime: k.GetBatchTime(), Position: k.GetPosition(), Hash: k.GetHash()}}
	}
	w := &rowWriter{stream: stream, msg: &ingestv1.Rows{}, sent: time.Now()}
	stats, err := session.Scan(ctx, req, w.write)
	if err != nil {
		return stats, err
	}
	return stats, w.flush()
}

// rowWriter packs rows into messages.
type rowWriter struct {
	stream ingestv1.IngestService_ReadServer
	msg    *ingestv1.Rows
	size   int
	sets   int // label sets that were sent
	sent   time.Time
}

// patience is how long rows wait for a message to fill.
const patience = 200 * time.Millisecond

func (w *rowWriter) write(rows *engine.ScanRows) error {
	m := w.msg
	for i, t := range rows.Times {
		for ; w.sets <= int(rows.Sets[i]); w.sets++ {
			l := &rows.Labels[w.sets]
			m.NewLabels = append(m.NewLabels, &ingestv1.RowLabels{
				Stream: uint32(l.Stream), Labels: toPairs(l.Labels), Metadata: toPairs(l.Metadata), Parsed: toPairs(l.Parsed),
			})
			w.size += 16 + pairsSize(l.Labels) + pairsSize(l.Metadata) + pairsSize(l.Parsed)
		}
		m.Labels = append(m.Labels, rows.Sets[i])
		m.Times = append(m.Times, t)
		m.BatchTimes = append(m.BatchTimes, rows.BatchTimes[i])
		m.Positions = append(m.Positions, rows.Positions[i])
		if len(rows.Hashes) > 0 {
			m.Hashes = append(m.Hashes, rows.Hashes[i])
		}
		if len(rows.Values) > 0 {
			m.Values = append(m.Values, rows.Values[i])
		} else {
			m.Slab = append(m.Slab, rows.Lines.At(i)...)
			m.LineEnds = append(m.LineEnds, uint32(len(m.Slab)))
			w.size += len(rows.Lines.At(i))
		}
		if w.size += 48; w.size >= messageBytes {
			if err := w.flush(); err != nil {
				return err
			}
			m = w.msg
		}
	}
	if time.Since(w.sent) > patience {
		return w.flush()
	}
	return nil
}

func (w *rowWriter) flush() error {
	if w.size == 0 {
		return nil
	}
	m := w.msg
	// The message belongs to gRPC from here on.
	w.msg = &ingestv1.Rows{}
	if len(m.Times) > 0 {
		w.msg.Slab = make([]byte, 0, len(m.Slab))
	}
	w.size, w.sent = 0, time.Now()
	return w.stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Rows{Rows: m}})
}

func aggregate(ctx context.Context, stream ingestv1.IngestService_ReadServer, session engine.Session, in *ingestv1.Aggregate) (engine.ScanStats, error) {
	query, err := parseQuery(in.GetQuery())
	if err != nil {
		return engine.ScanStats{}, err
	}
	ranges, err := zip(in.GetRangeStarts(), in.GetRangeEnds())
	if err != nil {
		return engine.ScanStats{}, err
	}
	series, stats, err := session.Aggregate(ctx, engine.AggregateRequest{
		Query: query, Streams: indices[int](in.GetStreams()), Ranges: ranges,
		Start: in.GetStart(), End: in.GetEnd(), Step: in.GetStep(), MaxSeries: int(in.GetMaxSeries()),
	})
	if err != nil {
		return stats, err
	}
	m, size := &ingestv1.Partials{}, 0
	for i := range series {
		s := &series[i]
		m.Series = append(m.Series, &ingestv1.PartialSeries{
			Labels: toPairs(s.Labels), Steps: s.Steps, Counts: s.Counts, Values: s.Values, Extras: s.Extras,
		})
		size += 32 + pairsSize(s.Labels) + 24*len(s.Steps)
		if size >= messageBytes || i == len(series)-1 {
			if err := stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Partials{Partials: m}}); err != nil {
				return stats, err
			}
			m, size = &ingestv1.Partials{}, 0
		}
	}
	return stats, nil
}

func patterns(ctx context.Context, stream ingestv1.IngestService_ReadServer, session engine.Session, in *ingestv1.Patterns) (engine.ScanStats, error) {
	query, err := parseLogQuery(in.GetQuery())
	if err != nil {
		return engine.ScanStats{}, err
	}
	ranges, err := zip(in.GetRangeStarts(), in.GetRangeEnds())
	if err != nil {
		return engine.ScanStats{}, err
	}
	found, stats, err := session.Patterns(ctx, engine.PatternsRequest{
		Query: query, Streams: indices[int](in.GetStreams()), Ranges: ranges, Start: in.GetStart(), End: in.GetEnd(), Width: in.GetWidth(),
	})
	if err != nil {
		return stats, err
	}
	m, size := &ingestv1.PatternCounts{}, 0
	for i, p := range found {
		m.Patterns = append(m.Patterns, &ingestv1.PatternCount{
			Service: valid(p.Service), Text: valid(p.Text), Level: valid(p.Level), Buckets: p.Buckets, Lines: p.Lines,
		})
		size += 32 + len(p.Text) + 16*len(p.Buckets)
		if size >= messageBytes || i == len(found)-1 {
			if err := stream.Send(&ingestv1.ReadResponse{Piece: &ingestv1.ReadResponse_Patterns{Patterns: m}}); err != nil {
				return stats, err
			}
			m, size = &ingestv1.PatternCounts{}, 0
		}
	}
	return stats, nil
}

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
