package querier

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	partial bool // go on without what cannot be opened
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
	var gaps []string
	for _, p := range snap.Problems(s.tenant, start, end) {
		if p.Kind == catalog.Unavailable && !s.partial {
			return nil, fmt.Errorf("block %s: %w", p.Key(), p.Err)
		}
		gaps = append(gaps, problemText(p))
	}
	live := snap.Live(s.tenant, start, end)
	open, errs := s.blocks.acquireAll(ctx, live)
	release := func() {
		for _, o := range open {
			if o != nil {
				s.blocks.release(o)
			}
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
			release()
			return nil, errs[i]
		}
	}
	ses, err := engine.Union(storeName, sources...).Open(ctx, matchers, start, end)
	if err != nil {
		release()
		return nil, err
	}
	return &storedSession{ses, gaps, release}, nil
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
	case errors.Is(err, catalog.ErrStale), errors.Is(err, objstore.ErrUnavailable):
		return rpcerr.Wrap(err, rpcerr.Unavailable, "%v", err).WithRetry(5 * time.Second)
	}
	return err
}

// storedSession is a session over blocks that are held open for it.
type storedSession struct {
	engine.Session
	gaps    []string
	release func()
}

func (s *storedSession) Gaps() []string { return append(s.gaps, s.Session.Gaps()...) }

func (s *storedSession) Close() error {
	err := s.Session.Close()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	return err
}
