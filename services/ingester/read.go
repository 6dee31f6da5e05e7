package ingester

import (
	"context"
	"errors"
	"fmt"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/ingester/head"
)

// Read implements ingestv1.IngestServiceServer.
func (s *Service) Read(stream ingestv1.IngestService_ReadServer) error {
	if err := s.readable(); err != nil {
		return err
	}
	id, err := tenant.Require(stream.Context())
	if err != nil {
		return err
	}
	return remote.Serve(stream, source{s, id}, remote.Options{
		Incarnation: s.incarnation, TableVersion: s.deps.TableVersion(), Memory: s.deps.ReadMemory, Refused: s.metrics.noMemory.Inc,
	})
}

// source is all that the ingester has of one tenant: the union of its heads and its
// local blocks.
type source struct {
	service *Service
	tenant  string
}

func (s source) Name() string { return s.service.incarnation }

func (s source) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	var heads []*head.Head
	held := s.service.blocks.view(s.tenant, start, end, s.service.now(), func() { heads = s.service.gens.live() })
	var sources []engine.Source
	for i, h := range heads {
		if h.StreamCount(s.tenant) > 0 {
			sources = append(sources, engine.Local(h.Store(s.tenant), fmt.Sprint("head ", i)))
		}
	}
	for _, b := range held.blocks {
		sources = append(sources, s.service.blockSource(b))
	}
	all := engine.Union(s.service.incarnation, sources...)
	if len(sources) == 1 {
		all = sources[0]
	}
	opened := false
	defer func() {
		if !opened {
			held.release() // also if it panics
		}
	}()
	in, err := all.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	opened = true
	return &session{in, s.service.unsettled(append(s.service.gaps(), held.gaps...)), held}, nil
}

// session keeps the blocks that it reads from, and says what is missing.
type session struct {
	engine.Session
	gaps []string
	held *held
}

var _ remote.Uploader = (*session)(nil)

// Gaps implements engine.Session.
func (s *session) Gaps() []string { return append(s.gaps, s.Session.Gaps()...) }

// Uploaded implements remote.Uploader.
func (s *session) Uploaded() []string { return s.held.uploaded }

// Close implements engine.Session.
func (s *session) Close() error {
	err := s.Session.Close()
	s.held.release()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Service) blockStore(r *block.Reader) engine.Store {
	return blockstore.NewStore(r, s.deps.Cache)
}

func (s *Service) blockOptions(whole bool) block.Options {
	o := block.Options{Knowledge: s.knowledge, NarrowRuns: true, Pages: !whole, Whole: whole}
	if whole {
		o.Level = column.LevelFastest // all lines go through it, and soon again
	}
	return o
}
