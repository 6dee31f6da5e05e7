package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// dying is a source that can be opened, and dies after it has sent some rows.
type dying struct {
	engine.Source
	after int
}

var errDied = errors.New("it died")

func (d dying) Open(ctx context.Context, m []*syntax.Matcher, start, end int64) (engine.Session, error) {
	s, err := d.Source.Open(ctx, m, start, end)
	return dyingSession{s, d.after}, err
}

type dyingSession struct {
	engine.Session
	after int
}

func (d dyingSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	n := 0
	stats, err := d.Session.Scan(ctx, req, func(r *engine.ScanRows) error {
		if n += len(r.Times); n > d.after {
			return errDied
		}
		return yield(r)
	})
	if err == nil {
		err = errDied
	}
	return stats, err
}

func (d dyingSession) Aggregate(context.Context, engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	return nil, engine.ScanStats{}, errDied
}

// Whatever dies in the middle of a query, the answer is whole, or an error, or says
// that it is not whole. An entry is on two of the three, as a quorum demands.
func TestDyingSourcesNeverShortenAnAnswer(t *testing.T) {
	const n = 600
	entry := func(i int) enginetest.Entry {
		return enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "a", Value: fmt.Sprint(i % 3)}}), Time: int64(i/4+1) * 1e9, Line: fmt.Sprint(i), BatchTime: 1, Position: uint32(i)}
	}
	layouts := map[string]func(source, i int) bool{
		"two equal, one with less":    func(source, i int) bool { return source < 2 || i%10 == 0 },
		"all equal":                   func(int, int) bool { return true },
		"each lacks every third":      func(source, i int) bool { return i%3 != source },
		"each lacks a third in time":  func(source, i int) bool { return i*3/n != source },
		"two equal, one with nothing": func(source, i int) bool { return source < 2 },
	}
	for layout, has := range layouts {
		var stores [3][]enginetest.Entry
		for i := range n {
			for s := range stores {
				if has(s, i) {
					stores[s] = append(stores[s], entry(i))
				}
			}
		}
		for dead := range 8 {
			for _, rf := range []int{1, 3} {
				for _, after := range []int{0, 300} {
					for _, partial := range []bool{false, true} {
						for _, backward := range []bool{false, true} {
							var sources []engine.Source
							var names []string
							for s := range stores {
								src := engine.Local(enginetest.NewStore(stores[s]...), fmt.Sprint("s", s))
								if dead&(1<<s) != 0 {
									src = dying{src, after}
									names = append(names, src.Name())
								}
								sources = append(sources, src)
							}
							complete := func(missing []string) error {
								for _, m := range missing {
									if !slices.Contains(names, m) {
										t.Errorf("%s lives", m)
									}
								}
								if len(missing) >= (rf/2 + 1) {
									return errors.New("too many")
								}
								return nil
							}
							q := engine.Query{Sources: sources, Complete: complete, Partial: partial}
							what := fmt.Sprintf("%s, dead %03b after %d, rf %d, partial %v, backward %v", layout, dead, after, rf, partial, backward)
							judge := func(kind string, got, want int, warnings []string, err error) {
								switch {
								case err != nil:
									if !errors.Is(err, engine.ErrIncomplete) || dead == 0 || partial {
										t.Errorf("%s, %s: %v", what, kind, err)
									}
								case got > want || got < want && len(warnings) == 0:
									t.Errorf("%s, %s: %d of %d, warnings %v", what, kind, got, want, warnings)
								}
							}
							q.Expr = parse(t, `{a=~".+"}`)
							res, err := engine.New(engine.Options{}).Range(t.Context(), engine.RangeQuery{Query: q, End: 1e18, Limit: 2 * n, Backward: backward})
							got := 0
							var warnings []string
							if err == nil {
								for _, s := range res.Streams {
									got += len(s.Entries)
								}
								warnings = res.Warnings
							}
							judge("logs", got, n, warnings, err)

							q.Expr = parse(t, `sum(count_over_time({a=~".+"}[1d]))`)
							res, err = engine.New(engine.Options{}).Instant(t.Context(), q, 1e14/2)
							got, warnings = 0, nil
							if err == nil {
								for _, s := range res.Vector {
									got += int(s.Value)
								}
								warnings = res.Warnings
							}
							judge("count", got, n, warnings, err)
						}
					}
				}
			}
		}
	}
}
