package head

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/weir-logs/weir/libs/model"
)

// Each calls yield with a tenant's rows that lie in one of the spans, which ascend: streams
// ascending by group, then by labels, the rows of each by order key. yield gets rows
// [from, to) of a batch, which are valid during the call. It is for heads that get no more
// rows.
func (h *Head) Each(ctx context.Context, tenantID string, group func(model.Labels) string, spans []Span, yield func(ls model.Labels, rows *model.Rows, from, to int) error) error {
	t := h.tenant(tenantID, false)
	if t == nil {
		return nil
	}
	streams := inGroups(t.list(), group)
	page, found := &model.Rows{}, &gathered{}
	for part := range slices.Chunk(streams, together) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.arena.gather(found, part)
		for i, s := range part {
			for _, sp := range spans {
				if err := s.each(ctx, page, found[i], sp, yield); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// inGroups returns streams ascending by group, then by labels. They are put in their groups
// before these are sorted: to compare streams waits for memory, unless they are few.
func inGroups(all []*stream, group func(model.Labels) string) []*stream {
	numbers := map[string]int{}
	var names []string
	var sizes []int
	of := make([]uint32, len(all)) // the group of each
	for i, s := range all {
		name := group(s.labels)
		n, ok := numbers[name]
		if !ok {
			n = len(names)
			numbers[name] = n
			names, sizes = append(names, name), append(sizes, 0)
		}
		of[i] = uint32(n)
		sizes[n]++
	}
	slices.Sort(names)
	next, at := make([]int, len(names)), 0
	for _, name := range names {
		n := numbers[name]
		next[n], at = at, at+sizes[n]
	}
	out := make([]*stream, len(all))
	for i, s := range all {
		out[next[of[i]]] = s
		next[of[i]]++
	}
	for _, name := range names {
		n := numbers[name]
		sortStreams(out[next[n]-sizes[n] : next[n]])
	}
	return out
}

// Groups returns how many groups a tenant's streams are of.
func (h *Head) Groups(tenantID string, group func(model.Labels) string) int {
	t := h.tenant(tenantID, false)
	if t == nil {
		return 0
	}
	seen := map[string]struct{}{}
	for _, s := range t.list() {
		seen[group(s.labels)] = struct{}{}
	}
	return len(seen)
}

func (s *stream) onlyFew() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.many == nil
}

// each is Each of one stream and span, whose first rows are given. page is memory that it
// uses.
func (s *stream) each(ctx context.Context, page *model.Rows, first []*record, sp Span, yield func(ls model.Labels, rows *model.Rows, from, to int) error) error {
	if s.onlyFew() {
		page.Reuse()
		s.few.arena.readRows(page, first, sp.Start, sp.End)
		if page.Len() == 0 {
			return nil
		}
		return yield(s.labels, page, 0, page.Len())
	}
	v, _, _ := s.snapshot(sp.Start, sp.End)
	r := (&snapshot{views: []*view{v}}).Rows(0, sp.Start, sp.End, false)
	for {
		rows, from, to, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && from < to {
			err = yield(s.labels, rows, from, to)
		}
		if err != nil {
			return err
		}
	}
}
