package engine

import (
	"cmp"
	"context"
	"slices"
)

// Clipper is a Session of which a part may be asked for.
type Clipper interface {
	Session
	// Clip returns the rows with start <= time < end as a session of its own, which is
	// to be closed before this one. ok is false if that cannot be done.
	Clip(ctx context.Context, start, end int64) (_ Session, ok bool, _ error)
}

// Clip implements Clipper.
func (s *localSession) Clip(ctx context.Context, start, end int64) (Session, bool, error) {
	start, end = max(start, s.start), min(end, s.end)
	if p, ok := s.indexed.(Parted); ok {
		return s.part(p, nil, start, end), true, nil
	}
	c, err := s.source.Open(ctx, s.matchers, start, end)
	return c, err == nil, err
}

// Clip implements Clipper.
func (s *unionSession) Clip(ctx context.Context, start, end int64) (Session, bool, error) {
	from := &s.united
	if s.spare != nil {
		from = s.spare
	}
	out := &unionSession{united: newUnited(len(from.sessions), s.united.held.mem), start: max(start, s.start), end: min(end, s.end), ctx: ctx, cancel: func(error) {}}
	copy(out.names, from.names)
	for i, session := range from.sessions {
		c, ok := session.(Clipper)
		if !ok || from.failed[i] {
			out.close()
			return nil, false, nil
		}
		clipped, ok, err := c.Clip(ctx, start, end)
		if !ok || err != nil {
			out.close()
			return nil, false, err
		}
		out.sessions[i] = clipped
	}
	return out, true, nil
}

// maxCut is how many sessions are cut at most.
const maxCut = 64

// interval is the times t with from <= t < to.
type interval struct{ from, to int64 }

func (i interval) meets(o interval) bool { return i.from < o.to && o.from < i.to }
func (i interval) holds(o interval) bool { return i.from <= o.from && o.to <= i.to }

// unitedIntervals returns intervals, ascending, with those that meet or touch as one.
func unitedIntervals(all []interval) []interval {
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	out := all[:0]
	for _, i := range all {
		if n := len(out); n > 0 && i.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, i.to)
			continue
		}
		out = append(out, i)
	}
	return out
}

// cutPart is a session that has rows.
type cutPart struct {
	interval
	session int
	clips   Clipper // nil: it is taken as a whole
}

// cut returns sessions whose times do not touch and that have the rows of u: where
// those of one session alone lie it, clipped, and where those of several overlap a
// union of these. nil: it would be of no use. made are to be closed before u is; the
// others are those of u.
func (u *united) cut(ctx context.Context, start, end int64) (cut *united, made []Session) {
	var parts []cutPart // as cut, of u
	for i, s := range u.sessions {
		if s == nil || u.failed[i] {
			continue
		}
		var e Extent
		ok := true
		if w := wholeOf(s); w != nil {
			e, ok = w.extent()
		} else {
			e, _ = u.extentOf(i)
		}
		if !ok {
			return nil, nil
		}
		if p := (cutPart{interval: interval{max(e.MinTime, start), min(e.MaxTime+1, end)}, session: i}); e.Streams > 0 && p.from < p.to {
			p.clips, _ = s.(Clipper)
			parts = append(parts, p)
		}
	}
	if len(parts) < 2 || len(parts) > maxCut {
		return nil, nil
	}
	overlaps := overlapsOf(parts)
	cut = &united{}
	ok := true
	add := func(s Session, name string) {
		cut.sessions, cut.names = append(cut.sessions, s), append(cut.names, name)
	}
	clip := func(p *cutPart, to interval) Session {
		if !ok || to.holds(p.interval) {
			return u.sessions[p.session]
		}
		var s Session
		var err error
		if p.clips == nil {
			ok = false
		} else if s, ok, err = p.clips.Clip(ctx, to.from, to.to); err != nil {
			ok = false
		} else if ok {
			made = append(made, s)
		}
		return s
	}
	alone := false
	for i := range parts {
		p := &parts[i]
		from := p.from
		for _, o := range overlaps {
			if o.meets(p.interval) {
				if from < o.from {
					alone = true
					add(clip(p, interval{from, o.from}), u.names[p.session])
				}
				from = max(from, o.to)
			}
		}
		if from < p.to {
			alone = true
			add(clip(p, interval{from, p.to}), u.names[p.session])
		}
	}
	for _, o := range overlaps {
		inner := &unionSession{start: o.from, end: o.to, ctx: ctx, cancel: func(error) {}, uncutted: uncutted{off: true}}
		var sessions []Session
		var names []string
		for i := range parts {
			if p := &parts[i]; p.meets(o) {
				sessions, names = append(sessions, clip(p, o)), append(names, u.names[p.session])
			}
		}
		inner.united = newUnited(len(sessions), u.held.mem)
		copy(inner.sessions, sessions)
		copy(inner.names, names)
		// What it opens itself is closed before what it is made of.
		made = append([]Session{innerCuts{inner}}, made...)
		add(inner, "sources that overlap")
	}
	if !ok || !alone {
		closeAll(made)
		return nil, nil
	}
	n := len(cut.sessions)
	all := newUnited(n, u.held.mem)
	all.sessions, all.names = cut.sessions, cut.names
	return &all, made
}

// overlapsOf returns the intervals in which several sessions may have rows, and all of
// those that cannot be clipped and overlap another one.
func overlapsOf(parts []cutPart) []interval {
	var all []interval
	for i := range parts {
		for k := range parts[:i] {
			if o := (interval{max(parts[i].from, parts[k].from), min(parts[i].to, parts[k].to)}); o.from < o.to {
				all = append(all, o)
			}
		}
	}
	for {
		all = unitedIntervals(all)
		grown := false
		for i := range parts {
			p := &parts[i]
			if p.clips == nil && !slices.ContainsFunc(all, func(o interval) bool { return o.holds(p.interval) }) &&
				slices.ContainsFunc(all, func(o interval) bool { return o.meets(p.interval) }) {
				all, grown = append(all, p.interval), true
			}
		}
		if !grown {
			return all
		}
	}
}

func closeAll(sessions []Session) {
	for _, s := range sessions {
		_ = s.Close() // they are parts of others
	}
}

// uncutted is what a union was before it was cut.
type uncutted struct {
	spare *united   // nil: it is not cut
	made  []Session // closed before those of spare
	off   bool      // it is not to be cut by time
	// lasting: what was cut has copies nowhere else, so nothing is to be had from spare.
	lasting bool
}

// planCut is plan, but cuts sessions that overlap so that only where they do rows are
// united. Failures are to be met by uncut.
func (u *united) planCut(ctx context.Context, start, end int64) (before uncutted) {
	if chain, ok := u.disjoint(); ok {
		u.chain = chain
		return before
	}
	if cut, made := u.cut(ctx, start, end); cut != nil {
		if chain, ok := cut.disjoint(); ok {
			spare := *u
			*u = *cut
			u.chain = chain
			return uncutted{spare: &spare, made: made}
		}
		closeAll(made)
		cut.held.release()
	}
	u.planStreams(start, end)
	return before
}

// uncut takes a cut back; whoever calls it plans anew.
func (b *uncutted) uncut(u *united) bool {
	if b.spare == nil {
		return false
	}
	closeAll(b.made)
	u.held.release()
	*u = *b.spare
	b.spare, b.made, b.lasting = nil, nil, false
	return true
}
