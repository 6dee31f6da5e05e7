package querier

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// TenantLabel is the label that the streams of a query of several tenants have besides
// their own. It sorts before service_name, which every stream has.
const TenantLabel = "__tenant_id__"

// part is one of the tenants of a query of several.
type part struct {
	scope
	excluded *engine.Excluded // once it is known
}

// scopeOf returns what a query of tenants may touch: where they are several, what all
// their limits allow.
func (s *Service) scopeOf(ids []string) (scope, error) {
	now := s.deps.Now()
	if len(ids) == 1 {
		return scope{tenant: ids[0], limits: s.deps.Limits.For(ids[0]), now: now}, nil
	}
	if !s.multiTenant {
		return scope{}, rpcerr.New(rpcerr.InvalidTenant, "multiple org IDs present")
	}
	sc := scope{tenant: tenant.Join(ids), now: now}
	for i, id := range ids {
		p := &part{scope: scope{tenant: id, limits: s.deps.Limits.For(id), now: now}}
		if sc.parts = append(sc.parts, p); i == 0 {
			sc.limits = p.limits
		}
		sc.limits = least(sc.limits, p.limits)
	}
	return sc, nil
}

// tenants returns the tenants of a query.
func (sc scope) tenants() []string {
	if sc.parts == nil {
		return []string{sc.tenant}
	}
	out := make([]string, len(sc.parts))
	for i, p := range sc.parts {
		out[i] = p.tenant
	}
	return out
}

// least returns of each limit of queries the lesser one, and takes all names that one
// of the tenants may have.
func least(a, b limits.Limits) limits.Limits {
	a.MaxQueryText = min(a.MaxQueryText, b.MaxQueryText)
	a.MaxQuerySeries = min(a.MaxQuerySeries, b.MaxQuerySeries)
	if b.QuerySeriesOverflow == limits.FailSeries {
		a.QuerySeriesOverflow = limits.FailSeries
	}
	a.MaxQueryEntries = min(a.MaxQueryEntries, b.MaxQueryEntries)
	a.MaxQueryPoints = min(a.MaxQueryPoints, b.MaxQueryPoints)
	a.MaxQueryRange = min(a.MaxQueryRange, b.MaxQueryRange)
	a.MaxUnselectiveQueryBytes = min(a.MaxUnselectiveQueryBytes, b.MaxUnselectiveQueryBytes)
	a.QueryTimeout = min(a.QueryTimeout, b.QueryTimeout)
	a.MaxQueuedQueries = min(a.MaxQueuedQueries, b.MaxQueuedQueries)
	a.UTF8Names = a.UTF8Names || b.UTF8Names
	return a
}

// sourcesOfAll is sources for several tenants: those of each, whose streams have the
// tenant as a label. What a tenant's sources leave out is what excludedOfAll has found.
func (s *Service) sourcesOfAll(sc scope, partial bool) ([]engine.Source, func(missing []string) error) {
	var out []engine.Source
	complete := map[string]func([]string) error{}
	for _, p := range sc.parts {
		mine, judge := s.sources(p.scope, partial)
		complete[p.tenant] = judge
		for _, src := range mine {
			out = append(out, engine.WithLabel(src, model.Label{Name: TenantLabel, Value: p.tenant}, p.context))
		}
	}
	return out, func(missing []string) error {
		for _, p := range sc.parts {
			var names []string
			for _, name := range missing {
				if name, ok := strings.CutPrefix(name, p.tenant+": "); ok {
					names = append(names, name)
				}
			}
			if len(names) == 0 {
				continue
			}
			if err := complete[p.tenant](names); err != nil {
				return rpcerr.Wrap(err, rpcerr.ReasonOf(err), "tenant %s: %v", p.tenant, err).WithRetry(max(rpcerr.RetryAfter(err), time.Second))
			}
		}
		return nil
	}
}

// context is what the sources of a tenant are opened under.
func (p *part) context(ctx context.Context) context.Context {
	x := p.excluded
	if x == nil {
		x = &engine.Excluded{} // not that of the query, which is of all
	}
	return engine.WithExcluded(tenant.NewContext(ctx, p.tenant), x)
}

// excludedOfAll is excluded for several tenants: each has its own, and the set that it
// returns only names them.
func (s *Service) excludedOfAll(ctx context.Context, sc scope) (*engine.Excluded, error) {
	var versions []string
	for _, p := range sc.parts {
		x, err := s.excluded(ctx, p.scope)
		if err != nil {
			return nil, err
		}
		if p.excluded = x; x != nil {
			versions = append(versions, p.tenant+":"+x.Version)
		}
	}
	if versions == nil {
		return nil, nil
	}
	return &engine.Excluded{Version: strings.Join(versions, "|")}, nil
}

// unwrap returns the source within one that has a label more.
func unwrap(src engine.Source) engine.Source {
	if w, ok := src.(interface{ Unwrap() engine.Source }); ok {
		return w.Unwrap()
	}
	return src
}

// storedOf returns the object stores among sources.
func storedOf(sources []engine.Source) []*stored {
	var out []*stored
	for _, src := range sources {
		if st, ok := unwrap(src).(*stored); ok {
			out = append(out, st)
		}
	}
	return slices.Clip(out)
}
