package ingester

import (
	"context"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/tenant"
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
	return remote.Serve(stream, source{engine.Local(s.head.Store(id), s.incarnation), s}, remote.Options{
		Incarnation: s.incarnation, TableVersion: s.deps.TableVersion(), Memory: s.deps.ReadMemory,
	})
}

// source is the head as a source that knows what is missing from it.
type source struct {
	engine.Source
	service *Service
}

type session struct {
	engine.Session
	gaps []string
}

func (s session) Gaps() []string { return s.gaps }

func (s source) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	in, err := s.Source.Open(ctx, matchers, start, end)
	if err != nil {
		return nil, err
	}
	return session{in, s.service.gaps()}, nil
}
