package querier

import (
	"context"
	"maps"
	"slices"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
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
		service: s, sc: sc, query: sel, hash: queryHash(sel), stream: stream, ctx: ctx,
		events: make(chan tailEvent), begun: make(chan struct{}), following: map[string]bool{},
		cursor: cursor, seen: newSeen(cursor.Pending, time.Now()), sent: maps.Clone(cursor.Positions), pending: cursor.Pending,
		began: time.Now(), views: map[string]*ring.View{}, missed: missed{sc.limits.IngestionShardSize > 0, map[string]*miss{}},
	}
	t.since, t.resumed = t.began, req.GetCursor() != ""
	if cursor.Began != 0 {
		t.since = time.Unix(0, cursor.Began).Add(-clocksApart)
	} else {
		cursor.Began = t.began.UnixNano()
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
	hash    uint64 // of it
	stream  tailv1.TailService_TailServer
	ctx     context.Context

	events    chan tailEvent
	begun     chan struct{}   // closed when history has been sent
	following map[string]bool // ingesters with a follower
	cursor    *tailCursor
	seen      *seen
	holders   int                   // ingesters that a row may come from
	began     time.Time             // when the call did
	since     time.Time             // when the tail did: its first call
	resumed   bool                  // this is not its first
	views     map[string]*ring.View // the last that an ingester was in
	missed    missed

	early   []tailEvent // the first of each follower, which came before history was read
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

func (t *tail) run(req *tailv1.TailRequest) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	if err := t.follow(ctx, true); err != nil {
		return err
	}
	// From here on everything that comes is noticed, so that history may be read
	// without a gap behind it: it waits at the ingesters, as it does for a slow client.
	// What is in both is left out by its hash.
	if h := t.historyOf(req); h != nil {
		if err := t.history(h); err != nil {
			return err
		}
	}
	close(t.begun)
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
			sources := t.sources()
			t.service.tailMemory.age(t.seen, func() int { return t.seen.age(time.Now(), sources) })
			for _, name := range t.missed.settle(t.seen.toldBy(time.Now(), sources)) {
				t.done(name)
			}
			t.forget(time.Now())
			if len(t.dropped) == 0 {
				continue
			}
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
	t.missed.seen(view)
	started := make(chan string, len(view.Ingesters()))
	waiting, awaited := map[string]bool{}, map[string]bool{}
	for _, m := range view.Ingesters() {
		t.views[m.Name] = view
		if t.following[m.Name] {
			continue
		}
		t.following[m.Name] = true
		if view.Healthy(m.Name) {
			waiting[m.Name] = true
		}
		at := t.cursor.Positions[m.Name]
		if at.Done != 0 && at.Incarnation != m.Incarnation {
			at = position{} // made anew under its name: nothing is owed of what it was
		}
		f := &follower{
			name: m.Name, client: func() (ingestv1.IngestServiceClient, error) { return t.service.ingester(m.Name) },
			query: t.query.String(), at: at.place(),
			events: t.events, started: func() { started <- m.Name }, begun: t.begun,
		}
		if f.at.Position == 0 && (t.resumed || !first) {
			t.join(f, view)
		}
		awaited[m.Name] = f.at.Position != 0 || !f.since.IsZero()
		go f.run(ctx)
	}
	t.leavers(view)
	if !first {
		t.tellMissed(view)
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
			reason := downText
			if awaited[m.Name] {
				reason = awaitedText
			}
			t.missed.lacks(m.Name, t.miss(m.Name, reason))
		}
	}
	// What an ingester has lost before is not a tail's business, but a querier that has
	// only just started may know too few of them.
	if len(missing) > 0 || len(view.Ingesters()) < view.Quorum() {
		_, complete := t.service.ingesters(t.sc)
		if err := complete(missing); err != nil {
			return err
		}
	}
	t.tellMissed(view)
	return nil
}

// sources returns the members that may send what others have sent before: those that are
// followed, or will be, from a position. Others send what comes once they are heard of.
func (t *tail) sources() (names []string) {
	for _, m := range t.service.deps.Ring.View().Ingesters() {
		if _, ok := t.cursor.Positions[m.Name]; ok || t.following[m.Name] && t.missed.members[m.Name] == nil {
			names = append(names, m.Name)
		}
	}
	return names
}

// take adds what is new of an event to the next response.
func (t *tail) take(ev tailEvent) {
	t.heard(ev)
	for _, m := range ev.messages {
		t.takeMessage(ev.ingester, m)
	}
	if !ev.complete.IsZero() {
		t.seen.complete(ev.ingester, ev.complete)
	}
}

func (t *tail) takeMessage(ingester string, m *ingestv1.FollowResponse) {
	at := position{Incarnation: m.GetIncarnation(), Position: m.GetPosition()}
	if m.GetLast() {
		at.Done = time.Now().Unix()
	}
	t.cursor.Positions[ingester] = at
	rows := m.GetRows()
	lines := model.Strings{Ends: rows.GetLineEnds(), Slab: rows.GetSlab()}
	sets := make([]*rowLabels, len(rows.GetNewLabels()))
	for i, tm := range rows.GetTimes() {
		hash := rows.GetHashes()[i]
		if !t.seen.first(hash, ingester, t.holders, time.Now()) {
			continue
		}
		n := rows.GetLabels()[i]
		ls := sets[n]
		if ls == nil {
			ls = newRowLabels(rows.GetNewLabels()[n])
			sets[n] = ls
		}
		if len(t.seen.history) > 0 && t.seen.wasShown(contentKey(tm, ls.labels, ls.meta, ls.parsed, lines.At(i))) {
			continue
		}
		e := entry(tm, lines.At(i))
		e.StructuredMetadata, e.Parsed = ls.metaMap, ls.parsedMap
		t.add(hash, ls, e, entryBytes(len(lines.At(i)), ls.meta, ls.parsed))
	}
}

// rowLabels is what rows of a message have in common. Their entries share the maps, which
// nobody changes.
type rowLabels struct {
	labels, meta, parsed model.Labels
	metaMap, parsedMap   map[string]string
	name                 string // of labels
}

func newRowLabels(m *ingestv1.RowLabels) *rowLabels {
	ls := &rowLabels{labels: fromPairs(m.GetLabels()), meta: fromPairs(m.GetMetadata()), parsed: fromPairs(m.GetParsed())}
	ls.metaMap, ls.parsedMap, ls.name = labelMap(ls.meta), labelMap(ls.parsed), ls.labels.String()
	return ls
}

func (t *tail) add(hash uint64, ls *rowLabels, e *queryv1.LogEntry, size int) {
	if n := len(t.pages); n == 0 || t.pages[n-1].full() {
		t.pages = append(t.pages, &tailPage{byName: map[string]*queryv1.LogStream{}})
	}
	p := t.pages[len(t.pages)-1]
	st := p.byName[ls.name]
	if st == nil {
		st = &queryv1.LogStream{Labels: labelMap(ls.labels)}
		p.byName[ls.name] = st
		p.streams = append(p.streams, st)
		p.bytes += entryBytes(0, ls.labels)
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
		resp := &tailv1.TailResponse{Streams: p.streams, Dropped: t.dropped, Cursor: t.cursorAt(all[:min(len(all), maxPending)])}
		t.pages, t.dropped = t.pages[1:], nil
		if err := t.stream.Send(resp); err != nil {
			return err
		}
	}
	t.sent, t.pending = maps.Clone(t.cursor.Positions), t.seen.pending()
	resp := &tailv1.TailResponse{Dropped: t.dropped, Cursor: t.cursorAt(t.pending)}
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
