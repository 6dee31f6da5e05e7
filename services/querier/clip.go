package querier

import (
	"context"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// Clip implements engine.Clipper.
func (s *storedSession) Clip(ctx context.Context, start, end int64) (engine.Session, bool, error) {
	c, is := s.Session.(engine.Clipper)
	if !is {
		return nil, false, nil
	}
	part, ok, err := c.Clip(ctx, start, end)
	if !ok || err != nil {
		s.stored.note(err)
		return nil, false, storeError(err)
	}
	return &storedSession{Session: part, stored: s.stored}, true, nil
}

// Clip implements engine.Clipper.
func (s blockSession) Clip(ctx context.Context, start, end int64) (engine.Session, bool, error) {
	defer s.of.caught()
	c, is := s.Session.(engine.Clipper)
	if !is {
		return nil, false, nil
	}
	part, ok, err := c.Clip(ctx, start, end)
	if !ok || err != nil {
		return nil, false, s.of.of(err)
	}
	return blockSession{part, s.of}, true, nil
}

// Touching implements engine.Parter. A panic names the other block, too: it may be due to either.
func (s blockSession) Touching(ctx context.Context, other engine.Session, copies bool) (engine.Touches, bool, error) {
	var with []catalog.Block
	if o, is := other.(blockSession); is {
		with = append(with, o.of.block)
	}
	defer s.of.caught(with...)
	p, is := s.Session.(engine.Parter)
	if !is {
		return engine.Touches{}, false, nil
	}
	t, ok, err := p.Touching(ctx, other, copies)
	return t, ok, s.of.of(err)
}

// Part implements engine.Parter.
func (s blockSession) Part(streams []int) (engine.Session, bool) {
	defer s.of.caught()
	p, is := s.Session.(engine.Parter)
	if !is {
		return nil, false
	}
	part, ok := p.Part(streams)
	if !ok {
		return nil, false
	}
	return blockSession{part, s.of}, true
}
