package querier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// storeName is the name of the source that is the object store.
const storeName = "object store"

// stored is the live blocks of a tenant as one source. It is opened behind the
// ingesters: what these no longer hold, it has.
type stored struct {
	blocks  *blocks
	tenant  string
	partial bool // go on without what cannot be read

	mu       sync.Mutex // guards what follows
	vanished bool       // a block has, while it was read
	failed   *blockError
	without  map[catalog.ID]error // blocks that could not be read, and are not read again
	instead  map[catalog.ID]bool  // damaged blocks in place of which others were opened
	fresh    bool                 // the blocks were listed since the query knows the deletes
	shunned  map[string]bool      // queriers that failed, and are asked no more
	lost     bool                 // one has, while it read
}

// blockError is why rows of a block could not be read.
type blockError struct {
	block catalog.Block
	err   error
}

func (e *blockError) Error() string { return "block " + catalog.Key(e.block) + ": " + e.err.Error() }
func (e *blockError) Unwrap() error { return e.err }

// maxWithout is how many blocks an answer in part goes on without that fail while
// they are read.
const maxWithout = 20

// again reports whether a query whose reading failed is to be run again: blocks that
// have vanished meanwhile may have been replaced, and an answer in part can do without
// those that cannot be read.
func (s *stored) again(ctx context.Context, first bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	vanished, failed, lost := s.vanished, s.failed, s.lost
	s.vanished, s.failed, s.lost = false, nil, false
	switch {
	case ctx.Err() != nil:
		return false
	case lost:
		return true // as often as there are queriers
	case vanished && first:
		return s.blocks.store.Loader.RefreshTenant(ctx, s.tenant) == nil
	case failed != nil && !passing(failed) && s.replaceable(failed.block.ID):
		return true // at most once for each block
	case failed != nil && s.partial && len(s.without) < maxWithout:
		if s.without == nil {
			s.without = map[catalog.ID]error{}
		}
		s.without[failed.block.ID] = failed
		return true
	}
	return false
}

// replaceable reports whether others contain a damaged block that was opened: what it was
// merged from is read in its place. Call with mu held.
func (s *stored) replaceable(id catalog.ID) bool {
	if s.instead[id] {
		return false
	}
	snap, err := s.blocks.store.Loader.Snapshot(s.tenant)
	if err != nil {
		return false
	}
	_, without := snap.Without(s.blocks.known())
	return slices.Contains(without, id)
}

// retired reports whether a delete may be in force no more whose entries are in what blocks
// that are left out were merged from.
func retired(ctx context.Context, snap *catalog.Snapshot, without []catalog.ID) bool {
	inForce := map[string]bool{}
	if x := engine.ExcludedOf(ctx); x != nil && len(without) > 0 {
		for _, t := range x.Tombstones {
			inForce[t.ID] = true
		}
	}
	for _, id := range without {
		b, _ := snap.Block(id)
		for _, src := range b.Sources {
			a, there := snap.Block(src.ID)
			if there && slices.ContainsFunc(b.Tombstones, func(t string) bool { return !inForce[t] && !slices.Contains(a.Tombstones, t) }) {
				return true
			}
		}
	}
	return false
}

// listed reports whether it was called before.
func (s *stored) listed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.fresh
	s.fresh = true
	return was
}

func (s *stored) mayReplace(id catalog.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaceable(id)
}

// note keeps in mind why reading failed.
func (s *stored) note(err error) {
	if s.shun(err) {
		s.mu.Lock()
		s.lost = true
		s.mu.Unlock()
		return
	}
	if e, ok := errors.AsType[*blockError](err); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = e
		s.vanished = s.vanished || errors.Is(err, objstore.ErrNotFound)
	}
}

// damage says of an error that a block is damaged: to try again will not help.
func damage(err error) error {
	b, ok := errors.AsType[*blockError](err)
	if !ok || passing(err) {
		return err
	}
	return rpcerr.Wrap(b, rpcerr.DataLoss, "%v", b)
}

// passing reports whether an error about a block says nothing about its content.
func passing(err error) bool {
	return slices.ContainsFunc([]error{objstore.ErrNotFound, objstore.ErrUnavailable, objstore.ErrDenied,
		context.Canceled, context.DeadlineExceeded}, func(e error) bool { return errors.Is(err, e) })
}

// rerun runs a query that reads from sources, and again as long as that may help and
// given is false: it tells that something of the answer was given out.
func rerun(ctx context.Context, sources []engine.Source, given func() bool, run func() error) error {
	for first := true; ; first = false {
		err := run()
		if given() {
			return damage(err)
		}
		again := false
		for _, st := range storedOf(sources) {
			again = st.again(ctx, first) || again
		}
		if !again {
			return damage(err)
		}
	}
}

func (s *stored) Name() string { return storeName }

// Open implements engine.Source.
func (s *stored) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	return s.OpenAfter(ctx, nil, matchers, start, end)
}

// vanishes is how often a query looks for what replaces blocks that have vanished
// since they were listed.
const vanishes = 3

// OpenAfter implements engine.Follower: blocks that ingesters say they have uploaded
// are loaded first, if this process has not heard of them.
func (s *stored) OpenAfter(ctx context.Context, others []engine.Session, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	var keys []string
	for _, o := range others {
		if o, ok := o.(interface{ Opened() *ingestv1.Opened }); ok {
			keys = append(keys, o.Opened().GetUploadedBlocks()...)
		}
	}
	slices.Sort(keys)
	for try := 1; ; try++ {
		// Keys whose blocks were expired meanwhile are known to be.
		if err := s.blocks.store.Loader.Announce(ctx, slices.Compact(keys)...); err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return nil, storeError(err)
		}
		ses, err := s.open(ctx, matchers, start, end)
		if err == nil || !errors.Is(err, objstore.ErrNotFound) || try == vanishes {
			return ses, storeError(err)
		}
		if err := s.blocks.store.Loader.RefreshTenant(ctx, s.tenant); err != nil {
			return nil, storeError(err)
		}
	}
}

func (s *stored) open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	loader := s.blocks.store.Loader
	snap, err := loader.Snapshot(s.tenant)
	if errors.Is(err, catalog.ErrStale) {
		if err := loader.RefreshTenant(ctx, s.tenant); err != nil {
			return nil, err
		}
		snap, err = loader.Snapshot(s.tenant)
	}
	if err != nil {
		return nil, err
	}
	// What a damaged block was merged from is as good as it is, while it is there: deletes and
	// retention hold at read, and a delete does not retire before it is gone. So if one has,
	// the listing is to be younger than that.
	rest, instead := snap.Without(s.blocks.known())
	if retired(ctx, snap, instead) && !s.listed() {
		if err := loader.RefreshTenant(ctx, s.tenant); err != nil {
			return nil, err
		}
		return s.open(ctx, matchers, start, end) // once
	}
	snap = rest
	var gaps []string
	for _, p := range snap.Problems(s.tenant, start, end) {
		if p.Kind == catalog.Unavailable && !s.partial {
			return nil, fmt.Errorf("block %s: %w", p.Key(), p.Err)
		}
		gaps = append(gaps, problemText(p))
	}
	live := snap.Live(s.tenant, start, end)
	s.mu.Lock()
	if s.instead == nil && len(instead) > 0 {
		s.instead = map[catalog.ID]bool{}
	}
	for _, id := range instead {
		s.instead[id] = true
	}
	for _, b := range live {
		if err := s.without[b.ID]; err != nil {
			gaps = append(gaps, "not read: "+err.Error())
		}
	}
	live = slices.DeleteFunc(live, func(b catalog.Block) bool { return s.without[b.ID] != nil })
	s.mu.Unlock()
	live, away := s.spread(live)
	open, errs := s.blocks.acquireAll(ctx, live)
	release := func() {
		for _, o := range open {
			if o != nil {
				s.blocks.release(o)
			}
		}
		open = nil
	}
	kept := false
	defer func() {
		if !kept {
			release() // also if it panics
		}
	}()
	for i, err := range errs {
		if _, of := errors.AsType[*blockError](err); of && !passing(err) && s.mayReplace(live[i].ID) {
			release()
			return s.open(ctx, matchers, start, end) // at most once for each block
		}
	}
	var sources []engine.Source
	for i, o := range open {
		switch {
		case o != nil:
			sources = append(sources, o.source)
		case s.partial && ctx.Err() == nil && !errors.Is(errs[i], objstore.ErrNotFound):
			gaps = append(gaps, "not read: "+errs[i].Error())
		default:
			return nil, errs[i]
		}
	}
	ses, err := engine.Union(storeName, append(sources, away...)...).Open(ctx, matchers, start, end)
	if err != nil {
		release()
		if ctx.Err() == nil && s.shun(err) {
			return s.open(ctx, matchers, start, end) // at most once for each querier
		}
		return nil, err
	}
	kept = true
	return &storedSession{ses, s, gaps, release}, nil
}

// problemText says what an answer lacks.
func problemText(p catalog.Problem) string {
	at := func(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }
	text := fmt.Sprintf("data_loss: block %s from %s to %s: %s", p.Key(), at(p.Block.MinTime), at(p.Block.MaxTime), p.Kind)
	if p.Kind == catalog.Unavailable {
		text = fmt.Sprintf("not read: block %s: %s", p.Key(), p.Kind)
	}
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	return text
}

// storeError says what a failure of the store means to who asks.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, catalog.ErrStale), errors.Is(err, objstore.ErrUnavailable), isWorkerError(err):
		return rpcerr.Wrap(err, rpcerr.Unavailable, "%v", err).WithRetry(5 * time.Second)
	}
	return err
}

// storedSession is a session over blocks that are held open for it.
type storedSession struct {
	engine.Session
	stored  *stored
	gaps    []string
	release func()
}

// Gaps implements engine.Session.
func (s *storedSession) Gaps() []string { return append(s.gaps, s.Session.Gaps()...) }

// Unwrap returns the session that answers.
func (s *storedSession) Unwrap() engine.Session { return s.Session }

// Scan implements engine.Session.
func (s *storedSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	stats, err := s.Session.Scan(ctx, req, yield)
	s.stored.note(err)
	return stats, storeError(err)
}

// Aggregate implements engine.Session.
func (s *storedSession) Aggregate(ctx context.Context, req engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	series, stats, err := s.Session.Aggregate(ctx, req)
	s.stored.note(err)
	return series, stats, storeError(err)
}

// Collect implements engine.Collector.
func (s *storedSession) Collect(ctx context.Context, req engine.AggregateRequest) ([]engine.ValueSeries, engine.ScanStats, bool, error) {
	c, is := s.Session.(engine.Collector)
	if !is {
		return nil, engine.ScanStats{}, false, nil
	}
	values, stats, ok, err := c.Collect(ctx, req)
	s.stored.note(err)
	return values, stats, ok, storeError(err)
}

// Patterns implements engine.Session.
func (s *storedSession) Patterns(ctx context.Context, req engine.PatternsRequest) ([]engine.PatternCount, engine.ScanStats, error) {
	found, stats, err := s.Session.Patterns(ctx, req)
	s.stored.note(err)
	return found, stats, storeError(err)
}

// Close implements engine.Session.
func (s *storedSession) Close() error {
	err := s.Session.Close()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return err
}
