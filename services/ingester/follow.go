package ingester

import (
	"context"
	"slices"
	"strings"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/ingester/head"
)

const (
	// followStep is how many appends a follower looks at together.
	followStep = 4096
	// followBytes is when a message of a follower is sent.
	followBytes = 1 << 20
	// followIdle is how long a follower may have nothing to say.
	followIdle = 5 * time.Second
)

// Follow implements ingestv1.IngestServiceServer. Followers read from the head by
// append position, at their own pace: nothing is queued for them and nothing they
// are slow to take is lost.
func (s *Service) Follow(req *ingestv1.FollowRequest, stream ingestv1.IngestService_FollowServer) error {
	if err := s.readable(); err != nil {
		return err
	}
	id, err := tenant.Require(stream.Context())
	if err != nil {
		return err
	}
	sel, err := syntax.ParseCanonical(req.GetQuery())
	if err != nil {
		return rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	query, ok := sel.(*syntax.LogSelector)
	if !ok {
		return rpcerr.New(rpcerr.InvalidArgument, "only log queries can be followed")
	}
	pipe, err := pipeline.Compile(query.Stages, pipeline.Hints{})
	if err != nil {
		return rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	select {
	case s.followers <- struct{}{}:
		defer func() { <-s.followers }()
	default:
		s.metrics.tooMany.Inc()
		return rpcerr.New(rpcerr.Overloaded, "this ingester serves %d live tails, its limit", s.cfg.MaxFollowers).WithRetry(time.Second)
	}
	s.metrics.followers.Inc()
	defer s.metrics.followers.Dec()

	called := time.Now()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	f := &follower{
		service: s, tenant: id, pipe: pipe, stream: stream, called: called,
		match:   func(ls model.Labels) bool { return head.Matches(query.Matchers, ls) },
		streams: map[string]*pipeline.Stream{},
	}
	s.owing.Add(1)
	defer func() {
		if !f.last {
			s.owing.Add(-1)
		}
	}()
	err = f.run(ctx, f.begin(req))
	if s.stop.Err() != nil && stream.Context().Err() == nil {
		return rpcerr.New(rpcerr.NotReady, "the ingester is stopping").WithRetry(time.Second)
	}
	return err
}

// begin sets where to go on, and returns whether something behind what was asked for may
// be missing.
func (f *follower) begin(req *ingestv1.FollowRequest) (lost bool) {
	s := f.service
	newest := s.gens.newest().Seq()
	// On the wire positions are one higher, so that 0 can mean none.
	switch at := req.GetPosition(); {
	case at == 0 && req.GetSince() == nil:
		f.position = newest
		return false
	case at == 0:
		f.position, lost = s.appendedSince(req.GetSince())
	case req.GetIncarnation() != s.incarnation:
		// This process began after the other incarnation had ended.
		f.position, _ = s.sequence.since(s.clock.began)
		lost = true
	case at-1 > newest:
		f.position, lost = newest, true
	default:
		f.position = at - 1
	}
	f.position = min(f.position, newest)
	// What is not in memory any more is read from the log.
	if oldest := s.gens.oldest(); f.position < oldest && f.position+1 < s.log.FirstLSN() {
		f.position, lost = oldest, true
	}
	return lost
}

// appendedSince returns a position for what began to be appended at a time or later, and
// whether some of that may be before it.
func (s *Service) appendedSince(c *ingestv1.ProcessClock) (position uint64, lost bool) {
	after := time.Duration(-1) // of an earlier process
	if c.GetId() == s.clock.id {
		after = time.Duration(c.GetNanos())
	}
	position, known := s.sequence.since(s.clock.began.Add(after))
	return position, !known
}

// follower is one call of Follow.
type follower struct {
	service  *Service
	tenant   string
	pipe     *pipeline.Pipeline
	match    func(model.Labels) bool
	stream   ingestv1.IngestService_FollowServer
	streams  map[string]*pipeline.Stream // by canonical labels
	position uint64
	told     uint64 // the position of the last message
	began    uint64 // the position that the log is being read behind
	reads    bool   // it is one of those that may read from the log now

	called  time.Time // when the call came
	settled time.Time // what was begun before was appended up to newest
	newest  uint64
	ended   bool      // nothing will come behind newest
	last    bool      // that was said
	sent    time.Time // when the last message was sent

	// The stream of the last row.
	pipeStream  *pipeline.Stream
	labels      model.Labels
	fingerprint uint64
	meta        []model.Label
}

func (f *follower) run(ctx context.Context, lost bool) error {
	// The first message tells the position, so that the caller can go on from it.
	if err := f.send(&ingestv1.FollowResponse{Lost: lost}); err != nil {
		return err
	}
	for {
		f.wait(ctx)
		// In this order: what is said to be all is read behind that.
		f.ended = f.service.ended()
		f.settled = f.service.sequence.settled()
		f.newest = f.service.gens.newest().Seq()
		for f.position < f.newest {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := f.step(ctx, min(f.newest, f.position+followStep)); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(f.sent) >= followIdle || f.ended && !f.last {
			if err := f.send(&ingestv1.FollowResponse{}); err != nil {
				return err
			}
		}
	}
}

// wait waits for something to send, or until nothing more will come, or for a while.
func (f *follower) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, followIdle)
	defer cancel()
	if !f.last {
		defer context.AfterFunc(f.service.writesEnded, cancel)()
	}
	_, _ = f.service.gens.wait(ctx, f.position) // an error: nothing
}

func (f *follower) send(m *ingestv1.FollowResponse) error {
	m.Position, m.Incarnation = f.position+1, f.service.incarnation
	if f.position >= f.newest && f.settled.After(f.called) {
		m.CompleteNanos = int64(f.settled.Sub(f.called))
	}
	m.Last = f.ended && f.position >= f.newest
	piece := f.told == f.position && len(m.GetRows().GetTimes()) > 0
	f.told, f.sent = f.position, time.Now()
	reads := f.reads
	f.giveReader()
	if err := f.stream.Send(m); err != nil {
		return err
	}
	if m.Last && !f.last {
		f.last = true
		f.service.owing.Add(-1)
	}
	switch {
	case reads && piece:
		return f.takeReader(f.stream.Context()) // the next message belongs to this one
	case reads:
		return f.awaitReader(f.stream.Context())
	}
	return nil
}

// step sends what came with the appends up to upto. A message that does not move the
// position is a piece of what the next one that does completes.
func (f *follower) step(ctx context.Context, upto uint64) error {
	appended, ok := f.service.gens.since(f.tenant, f.position, upto, f.match)
	if !ok {
		found, err := f.behind(ctx)
		if found || err != nil {
			return err
		}
		// The rows have left the log, too, before this follower got to them: that is said.
		f.position = max(f.position, f.service.gens.oldest())
		f.service.metrics.lostFollowers.Inc()
		return f.send(&ingestv1.FollowResponse{Lost: true})
	}
	w := &followWriter{follower: f, out: newRowSet()}
	for i := range appended {
		if err := w.add(&appended[i]); err != nil {
			return err
		}
	}
	return w.finish(upto)
}

// followWriter makes messages of appends, which come in order.
type followWriter struct {
	*follower
	out    *rowSet
	pieces bool // of the append that the position is before some were sent
}

func (w *followWriter) flush(position uint64) error {
	w.position = position
	m := &ingestv1.FollowResponse{Rows: w.out.rows}
	w.out = newRowSet()
	return w.send(m)
}

func (w *followWriter) add(a *head.Appended) error {
	if a.Seq > w.position+1 && (w.pieces || w.out.size >= followBytes) {
		if err := w.flush(a.Seq - 1); err != nil {
			return err
		}
		w.pieces = false
	}
	for i := a.From; i < a.To; i++ {
		w.append(w.out, a, i)
		if w.out.size < 2*followBytes {
			continue
		}
		if w.told != w.position {
			if err := w.send(&ingestv1.FollowResponse{}); err != nil {
				return err
			}
		}
		if err := w.flush(w.position); err != nil {
			return err
		}
		w.pieces = true
	}
	return nil
}

// finish sends the rest, and the position if nothing was sent for long.
func (w *followWriter) finish(upto uint64) error {
	if !w.pieces && len(w.out.rows.GetTimes()) == 0 && time.Since(w.sent) < followIdle {
		w.position = upto
		return nil
	}
	return w.flush(upto)
}

// append adds row i of what an append brought to out, if the query wants it.
func (f *follower) append(out *rowSet, a *head.Appended, i int) {
	if f.pipeStream == nil || !f.labels.Equal(a.Labels) {
		name := a.Labels.String()
		f.labels, f.fingerprint = a.Labels, a.Labels.Fingerprint()
		if f.pipeStream = f.streams[name]; f.pipeStream == nil {
			// Streams come and go; a follower of all of them must not grow for ever.
			if len(f.streams) >= 10_000 {
				clear(f.streams)
			}
			f.pipeStream = f.pipe.ForStream(a.Labels)
			f.streams[name] = f.pipeStream
		}
	}
	f.meta = a.Rows.AppendDerived(a.Rows.AppendMetadata(f.meta[:0], i), i)
	slices.SortStableFunc(f.meta, func(x, y model.Label) int { return strings.Compare(x.Name, y.Name) })
	line, labels, ok := f.pipeStream.Process(a.Rows.Times[i], a.Rows.Lines.At(i), f.meta)
	if ok {
		key := a.Rows.Key(i)
		key.Hash = model.StreamHash(f.fingerprint, key.Hash)
		out.add(key, line, labels)
	}
}

// rowSet is rows of a message, label sets interned.
type rowSet struct {
	rows *ingestv1.Rows
	sets map[string]uint32
	size int // bytes, roughly
	key  []byte
	buf  []model.Label
}

func newRowSet() *rowSet {
	return &rowSet{rows: &ingestv1.Rows{}, sets: map[string]uint32{}}
}

func (r *rowSet) add(key model.OrderKey, line []byte, labels *pipeline.LabelSet) {
	r.key = r.key[:0]
	r.buf = r.buf[:0]
	var ends [3]int
	for i, f := range []func([]model.Label) []model.Label{labels.AppendStream, labels.AppendMetadata, labels.AppendParsed} {
		from := len(r.buf)
		r.buf = f(r.buf)
		ends[i] = len(r.buf)
		r.key = append(pipeline.AppendKey(r.key, r.buf[from:]), 0xff)
	}
	n, ok := r.sets[string(r.key)]
	if !ok {
		n = uint32(len(r.sets))
		r.sets[string(r.key)] = n
		r.size += 2 * len(r.key)
		r.rows.NewLabels = append(r.rows.NewLabels, &ingestv1.RowLabels{
			Labels: pairs(r.buf[:ends[0]]), Metadata: pairs(r.buf[ends[0]:ends[1]]), Parsed: pairs(r.buf[ends[1]:]),
		})
	}
	r.size += len(line) + 40
	r.rows.Labels = append(r.rows.Labels, n)
	r.rows.Times = append(r.rows.Times, key.Time)
	r.rows.Slab = append(r.rows.Slab, line...)
	r.rows.LineEnds = append(r.rows.LineEnds, uint32(len(r.rows.Slab)))
	r.rows.Hashes = append(r.rows.Hashes, key.Hash)
	r.rows.BatchTimes = append(r.rows.BatchTimes, key.BatchTime)
	r.rows.Positions = append(r.rows.Positions, key.Position)
}

func pairs(ls []model.Label) []*ingestv1.Pair {
	out := make([]*ingestv1.Pair, len(ls))
	for i, l := range ls {
		out[i] = &ingestv1.Pair{Name: l.Name, Value: []byte(l.Value)}
	}
	return out
}
