package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

const (
	// maxSkippers is how many stores, and maxSkipFilters how many filters, are asked of
	// each other what may be skipped.
	maxSkippers    = 256
	maxSkipFilters = 8
)

// skips says what each filter that goes down to the stores spares them, and all of them
// together. Stores that are elsewhere are not asked.
func (o *opened) skips(ctx context.Context, p *plan) (notes []string, err error) {
	var stores []Selective
	for _, s := range o.sessions {
		leaves(s, func(s Session) {
			if l, ok := wholeOf(s).(*localSession); ok && len(stores) < maxSkippers {
				if from, ok := l.snap.(Selective); ok {
					stores = append(stores, from)
				}
			}
		})
	}
	note := func(what string, n *Need) {
		groups, skipped, blocks := 0, 0, 0
		for _, from := range stores {
			s, ok := from.Select(ctx, n).(Skipper)
			if !ok || err != nil {
				continue
			}
			all, not, failed := s.Skips()
			if err = failed; all > 0 {
				groups, skipped, blocks = groups+all, skipped+not, blocks+1
			}
		}
		if groups > 0 {
			notes = append(notes, fmt.Sprintf("%s skips %d of %d row groups of %d blocks", what, skipped, groups, blocks))
		}
	}
	all := &Need{}
	parts := 0
	part := func(what string, n *Need) {
		if parts++; parts <= maxSkipFilters {
			note(what, n)
		}
	}
	for _, f := range p.filters {
		all.Filters = append(all.Filters, f)
		part(strings.TrimSpace(f.String()), &Need{Filters: []*syntax.LineFilter{f}})
	}
	for _, m := range p.metadata {
		all.Metadata = append(all.Metadata, m)
		part(fmt.Sprintf("%s=%q", m.Name, m.Value), &Need{Metadata: []MetaEquals{m}})
	}
	for _, m := range p.values {
		all.Values = append(all.Values, m)
		part(fmt.Sprintf("%s=%q, which lines or metadata hold,", m.Name, m.Value), &Need{Values: []MetaEquals{m}})
	}
	if parts > 1 {
		note("all that together", all)
	}
	return notes, err
}
