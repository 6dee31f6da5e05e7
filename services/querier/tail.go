package querier

import (
	"context"
	"maps"
	"slices"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

const (
	// cursorInterval is how often a tail tells where it is, even if nothing comes.
	cursorInterval = 10 * time.Second
	// gather is how long a tail waits for more before it sends: replicas' copies,
	// and rows that come close together.
	gather = 20 * time.Millisecond
	// refollow is how long a tail waits before it calls a lost ingester again.
	refollow = 500 * time.Millisecond
)

// Tail implements tailv1.TailServiceServer.
func (s *Service) Tail(req *tailv1.TailRequest, stream tailv1.TailService_TailServer) error {
	if _, err := tenant.Require(stream.Context()); err != nil {
		return err // a tail is of one
	}
	sc, err := s.scope(stream.Context())
	if err != nil {
		return err
	}
	expr, err := parse(req.GetQuery(), sc)
	if err != nil {
		return err
	}
	sel, ok := expr.(*syntax.LogSelector)
	if !ok {
		return rpcerr.New(rpcerr.InvalidArgument, "only log queries can be tailed")
	}
	if err := tailable(sel); err != nil {
		return err
	}
	if req.GetCursor() != "" && req.GetStart() != nil {
		return rpcerr.New(rpcerr.InvalidArgument, "start and cursor exclude each other")
	}
	cursor, err := decodeCursor(req.GetCursor(), sel)
	if err != nil {
		return err
	}
	if err := s.takeTail(sc); err != nil {
		return err
	}
	defer s.giveTail(sc)

	ctx, cancel := context.WithTimeoutCause(stream.Context(), sc.limits.MaxTailDuration,
		rpcerr.New(rpcerr.Timeout, "reached tail max duration limit"))
	defer cancel()
	t := &tail{
		service: s, sc: sc, query: sel, stream: stream, ctx: ctx,
		events: make(chan tailEvent), following: map[string]bool{},
		cursor: cursor, seen: newSeen(cursor.Pending, time.Now()), sent: maps.Clone(cursor.Positions), pending: cursor.Pending,
	}
	defer s.tailMemory.release(t.seen)
	if err := t.run(req); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// tailable refuses what needs more than the entries that come, one by one.
func tailable(sel *syntax.LogSelector) error {
	if _, err := pipeline.Compile(sel.Stages, pipeline.Hints{}); err != nil {
		return parseError(err)
	}
	if sel.Bare {
		return rpcerr.New(rpcerr.InvalidArgument, "a tail needs a stream selector")
	}
	return nil
}

// tail is one call of Tail. Its fields belong to the goroutine that runs it;
// followers only send events.
type tail struct {
	service *Service
	sc      scope
	query   *syntax.LogSelector
	stream  tailv1.TailService_TailServer
	ctx     context.Context

	events    chan tailEvent
	following map[string]bool // ingesters with a follower
	cursor    *tailCursor
	seen      *seen
	holders   int             // ingesters that a row may come from
	begun     map[string]bool // members when the tail began

	early   []tailEvent // came before history was read
	pages   []*tailPage // gathered and not sent
	dropped []*tailv1.Dropped

	// The cursor as of the last send that was whole.
	sent    map[string]position
	pending []uint64
}

// tailPage is entries of one response.
type tailPage struct {
	streams []*queryv1.LogStream
	byName  map[string]*queryv1.LogStream
	hashes  []uint64 // of the entries
	bytes   int
}

// tailEvent is what a follower has to say.
type tailEvent struct {
	ingester string
	messages []*ingestv1.FollowResponse // what leads to one position, the last one's
	complete time.Time                  // what was appended before has come with this; zero: it does not say
	err      error                      // a lasting one: the tail ends
}

func (t *tail) run(req *tailv1.TailRequest) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	if err := t.follow(ctx, true); err != nil {
		return err
	}
	// From here on everything that comes is noticed, so that history may be read
	// without a gap behind it. What is in both is left out by its hash.
	if req.GetStart() != nil {
		if err := t.history(req); err != nil {
			return err
		}
	}
	for _, ev := range t.early {
		t.take(ev)
	}
	t.early = nil
	if err := t.send(); err != nil {
		return err
	}
	members := time.NewTicker(time.Second)
	defer members.Stop()
	idle := time.NewTimer(cursorInterval)
	defer idle.Stop()
	for {
		select {
		case ev := <-t.events:
			if err := t.collect(ev); err != nil {
				return err
			}
			if len(t.pages) == 0 && len(t.dropped) == 0 {
				continue
			}
		case <-members.C:
			if err := t.follow(ctx, false); err != nil {
				return err
			}
			t.service.tailMemory.age(t.seen, func() int { return t.seen.age(time.Now(), t.sources()) })
			continue
		case <-idle.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.send(); err != nil {
			return err
		}
		idle.Reset(cursorInterval)
	}
}

// collect takes in an event and all that come within a short time.
func (t *tail) collect(ev tailEvent) error {
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		if ev.err != nil {
			return ev.err
		}
		t.take(ev)
		if len(t.pages) > 1 || len(t.pages) == 1 && t.pages[0].full() {
			return nil
		}
		select {
		case ev = <-t.events:
		case <-timer.C:
			return nil
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// follow starts followers of ingesters that have none. At the beginning it waits
// until enough of them have answered, so that nothing acknowledged from then on
// is missed.
func (t *tail) follow(ctx context.Context, first bool) error {
	view := t.service.deps.Ring.View()
	t.holders = min(slices.Max(view.Factors().Slice()), len(view.Ingesters()))
	if first {
		t.begun = map[string]bool{}
		for _, m := range view.Ingesters() {
			t.begun[m.Name] = true
		}
	}
	started := make(chan string, len(view.Ingesters()))
	waiting := map[string]bool{}
	for _, m := range view.Ingesters() {
		if t.following[m.Name] || !view.Healthy(m.Name) {
			continue
		}
		t.following[m.Name] = true
		waiting[m.Name] = true
		go (&follower{
			name: m.Name, client: func() (ingestv1.IngestServiceClient, error) { return t.service.ingester(m.Name) },
			query: t.query.String(), at: t.from(m),
			events: t.events, started: func() { started <- m.Name },
		}).run(ctx)
	}
	if !first {
		return nil
	}
	answered := map[string]bool{}
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for len(waiting) > 0 {
		select {
		case name := <-started:
			delete(waiting, name)
			answered[name] = true
		case ev := <-t.events:
			if ev.err != nil {
				return ev.err
			}
			t.early = append(t.early, ev)
		case <-deadline.C:
			clear(waiting)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var missing []string
	for _, m := range view.Ingesters() {
		if !answered[m.Name] {
			missing = append(missing, m.Name)
		}
	}
	// What an ingester has lost before is not a tail's business, but a querier that has
	// only just started may know too few of them.
	if len(missing) == 0 && len(view.Ingesters()) >= view.Quorum() {
		return nil
	}
	_, complete := t.service.ingesters(t.sc)
	return complete(missing)
}

// sources returns the members that are followed, or will be from where the cursor is.
func (t *tail) sources() (names []string) {
	for _, m := range t.service.deps.Ring.View().Ingesters() {
		if _, ok := t.cursor.Positions[m.Name]; ok || t.following[m.Name] {
			names = append(names, m.Name)
		}
	}
	return names
}

// from returns where to follow an ingester from: behind the cursor, or now. One that
// joined after the tail began has nothing older than that, and is followed from its
// first entry.
func (t *tail) from(m *ring.Member) position {
	at, ok := t.cursor.Positions[m.Name]
	if !ok && !t.begun[m.Name] {
		return position{m.Incarnation, 1}
	}
	return at
}

// history sends the newest entries before now.
func (t *tail) history(req *tailv1.TailRequest) error {
	limit := req.GetLimit()
	if limit == 0 {
		limit = defaultLimit
	}
	res, _, err := t.service.runRange(t.ctx, &queryv1.QueryRangeRequest{
		Query: req.GetQuery(), Start: req.GetStart(), Limit: limit, Direction: queryv1.Direction_DIRECTION_BACKWARD,
	}, nil, nil)
	if err != nil {
		return err
	}
	for _, st := range res.Streams {
		slices.Reverse(st.Entries)
		for i := range st.Entries {
			e := &st.Entries[i]
			t.seen.shown(contentKey(e.Time, st.Labels, e.Metadata, e.Parsed, e.Line))
		}
	}
	// Without a cursor: whoever is cut off now has to ask for history again.
	return pages(res.Streams, func(page []engine.LogStream) error {
		return t.stream.Send(&tailv1.TailResponse{Streams: streams(page).GetStreams()})
	})
}

// take adds what is new of an event to the next response.
func (t *tail) take(ev tailEvent) {
	for _, m := range ev.messages {
		t.takeMessage(ev.ingester, m)
	}
	if !ev.complete.IsZero() {
		t.seen.complete(ev.ingester, ev.complete)
	}
}

func (t *tail) takeMessage(ingester string, m *ingestv1.FollowResponse) {
	if m.GetLost() {
		t.dropped = append(t.dropped, &tailv1.Dropped{Reason: "ingester " + ingester + " no longer knows the position of the cursor; entries that only it held may be missing"})
	}
	t.cursor.Positions[ingester] = position{m.GetIncarnation(), m.GetPosition()}
	rows := m.GetRows()
	lines := model.Strings{Ends: rows.GetLineEnds(), Slab: rows.GetSlab()}
	for i, tm := range rows.GetTimes() {
		ls := rows.GetNewLabels()[rows.GetLabels()[i]]
		hash := rows.GetHashes()[i]
		if !t.seen.first(hash, ingester, t.holders, time.Now()) {
			continue
		}
		labels, meta, parsed := fromPairs(ls.GetLabels()), fromPairs(ls.GetMetadata()), fromPairs(ls.GetParsed())
		if t.seen.wasShown(contentKey(tm, labels, meta, parsed, lines.At(i))) {
			continue
		}
		e := entry(tm, lines.At(i))
		e.StructuredMetadata, e.Parsed = labelMap(meta), labelMap(parsed)
		t.add(hash, labels, e, entryBytes(len(lines.At(i)), meta, parsed))
	}
}

func (t *tail) add(hash uint64, labels model.Labels, e *queryv1.LogEntry, size int) {
	if n := len(t.pages); n == 0 || t.pages[n-1].full() {
		t.pages = append(t.pages, &tailPage{byName: map[string]*queryv1.LogStream{}})
	}
	p := t.pages[len(t.pages)-1]
	name := labels.String()
	st := p.byName[name]
	if st == nil {
		st = &queryv1.LogStream{Labels: labelMap(labels)}
		p.byName[name] = st
		p.streams = append(p.streams, st)
		p.bytes += entryBytes(0, labels)
	}
	st.Entries = append(st.Entries, e)
	p.hashes = append(p.hashes, hash)
	p.bytes += size
}

func (p *tailPage) full() bool { return len(p.hashes) >= streamPage || p.bytes >= pageBytes }

// send sends what has been gathered, and the cursor. The cursors of all responses
// but the last are where the tail was before, and name what has been sent since.
func (t *tail) send() error {
	var since []uint64
	for len(t.pages) > 1 {
		p := t.pages[0]
		since = append(since, p.hashes...)
		all := slices.Concat(since, t.pending)
		resp := &tailv1.TailResponse{Streams: p.streams, Dropped: t.dropped, Cursor: encodeCursor(t.query, t.sent, all[:min(len(all), maxPending)])}
		t.pages, t.dropped = t.pages[1:], nil
		if err := t.stream.Send(resp); err != nil {
			return err
		}
	}
	t.sent, t.pending = maps.Clone(t.cursor.Positions), t.seen.pending()
	resp := &tailv1.TailResponse{Dropped: t.dropped, Cursor: encodeCursor(t.query, t.sent, t.pending)}
	if len(t.pages) > 0 {
		resp.Streams = t.pages[0].streams
	}
	t.pages, t.dropped = nil, nil
	return t.stream.Send(resp)
}

func fromPairs(in []*ingestv1.Pair) model.Labels {
	out := make(model.Labels, len(in))
	for i, p := range in {
		out[i] = model.Label{Name: p.GetName(), Value: string(p.GetValue())}
	}
	return out
}

// ingester returns the client of a member by its name.
func (s *Service) ingester(name string) (ingestv1.IngestServiceClient, error) {
	for _, m := range s.deps.Ring.View().Ingesters() {
		if m.Name == name {
			return s.deps.Ingesters.Ingester(m)
		}
	}
	return nil, rpcerr.New(rpcerr.Unavailable, "ingester %s is not a member", name)
}

// follower follows one ingester, and calls it again when the connection is lost.
type follower struct {
	name    string
	client  func() (ingestv1.IngestServiceClient, error) // asked for each call: a member may come back at another address
	query   string
	at      position
	events  chan<- tailEvent
	started func() // called once, when the ingester has answered
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if err != nil && lasting(err) {
			f.tell(ctx, tailEvent{ingester: f.name, err: err})
			return
		}
		select {
		case <-time.After(refollow):
		case <-ctx.Done():
		}
	}
}

func (f *follower) follow(ctx context.Context) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now() // not later than by the ingester
	stream, err := c.Follow(ctx, &ingestv1.FollowRequest{Query: f.query, Incarnation: f.at.Incarnation, Position: f.at.Position})
	if err != nil {
		return err
	}
	var pieces []*ingestv1.FollowResponse
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		at := position{m.GetIncarnation(), m.GetPosition()}
		pieces = append(pieces, m)
		if at == f.at && len(m.GetRows().GetTimes()) > 0 {
			continue // of something that is too large for one message, and comes again if its end does not come
		}
		f.at = at
		ev := tailEvent{ingester: f.name, messages: pieces}
		if n := m.GetCompleteNanos(); n > 0 {
			ev.complete = began.Add(time.Duration(n))
		}
		if !f.tell(ctx, ev) {
			return ctx.Err()
		}
		pieces = nil
		if f.started != nil {
			f.started()
			f.started = nil
		}
	}
}

func (f *follower) tell(ctx context.Context, ev tailEvent) bool {
	select {
	case f.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// lasting reports whether calling again would not help.
func lasting(err error) bool {
	switch rpcerr.ReasonOf(err) {
	case rpcerr.InvalidArgument, rpcerr.ParseError, rpcerr.LimitExceeded, rpcerr.PermissionDenied, rpcerr.Unauthenticated:
		return true
	}
	return false
}
