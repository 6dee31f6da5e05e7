package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// live counts what a query has done while it runs.
type live struct {
	bytes, metadata, rows, matched, total atomic.Uint64
}

type liveKey struct{}

func withLive(ctx context.Context, l *live) context.Context {
	return context.WithValue(ctx, liveKey{}, l)
}

// liveOf returns the counters of a context; there is always one.
func liveOf(ctx context.Context) *live {
	if l, ok := ctx.Value(liveKey{}).(*live); ok {
		return l
	}
	return &live{}
}

func (l *live) add(s ScanStats) {
	l.bytes.Add(s.BytesRead)
	l.metadata.Add(s.MetadataBytesRead)
	l.rows.Add(s.RowsRead)
	l.matched.Add(s.RowsFiltered)
}

// AddProgress counts what a source that is not Local has read for the query that
// ctx is of.
func AddProgress(ctx context.Context, s ScanStats) { liveOf(ctx).add(s) }

// WithoutProgress makes sources that run under ctx count for no query: who asked counts
// what their answers say that they have read.
func WithoutProgress(ctx context.Context) context.Context { return withLive(ctx, &live{}) }

func (l *live) progress() Progress {
	return Progress{
		BytesRead: l.bytes.Load(), BytesTotal: l.total.Load(), MetadataBytesRead: l.metadata.Load(),
		EntriesRead: l.rows.Load(), EntriesMatched: l.matched.Load(),
	}
}

// report calls f once a second until stop is called.
func (l *live) report(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f(l.progress())
			}
		}
	}()
	return func() { close(done); <-ended }
}
