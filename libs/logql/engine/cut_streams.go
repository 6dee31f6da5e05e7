package engine

import (
	"cmp"
	"context"
	"slices"
)

// Parted is an Indexed snapshot that knows which of its streams another one has rows of
// at the same times, and that can be taken apart.
type Parted interface {
	Indexed
	// Touching returns streams of this snapshot and of another one, ascending: all are
	// among them that both have and of which a run of one touches a run of the other. ok
	// is false if that is not known, or if they are most of the streams of one of them.
	Touching(ctx context.Context, other Snapshot) (own, others []int, ok bool, err error)
	// Part returns the rows of some of the streams, which ascend, or of all, if streams
	// is nil, with start <= time < end. It is to be closed before this snapshot.
	Part(streams []int, start, end int64) Snapshot
}

// Parter is a Session that can be taken apart.
type Parter interface {
	Session
	// Part returns some of the streams, by ascending numbers, as a session of its own, which
	// is to be closed before this one. ok is false if that cannot be done.
	Part(streams []int) (_ Session, ok bool)
}

// Part implements Parter.
func (s *localSession) Part(streams []int) (Session, bool) {
	p, ok := s.indexed.(Parted)
	if !ok {
		return nil, false
	}
	return s.part(p, streams, s.start, s.end), true
}

func (s *localSession) part(p Parted, streams []int, start, end int64) *localSession {
	out := &localSession{source: s.source, matchers: s.matchers, snap: p.Part(streams, start, end), start: start, end: end, workers: s.workers}
	out.indexed, _ = out.snap.(Indexed)
	return out
}

// partedOf returns the snapshot of a session, or of that which it wraps, if it is Parted.
func partedOf(s Session) Parted {
	if l, ok := wholeOf(s).(*localSession); ok && l.indexed != nil {
		p, _ := l.indexed.(Parted)
		return p
	}
	return nil
}

// member is a session that has rows, and which of its streams others have at the same times.
type member struct {
	link
	snap     Parted // nil: it is not one
	touching []int
}

// members returns the sessions that have rows if all others are known to have those of
// few of their streams at the same times; else nil.
func (u *united) members(ctx context.Context) []member {
	var all []member
	for i, s := range u.sessions {
		if s == nil {
			continue
		}
		if u.failed[i] {
			return nil
		}
		m := member{link: link{session: i}, snap: partedOf(s)}
		if w := wholeOf(s); w != nil {
			ok := false
			if m.Extent, ok = w.extent(); !ok {
				return nil
			}
			m.of = w
		} else {
			m.Extent, m.list = extentOf(u.listed(i))
		}
		if m.Streams > 0 {
			all = append(all, m)
		}
	}
	if len(all) < 2 || len(all) > maxCut {
		return nil
	}
	for i := range all {
		a := &all[i]
		for k := range all[:i] {
			b := &all[k]
			if a.MinTime > b.MaxTime || b.MinTime > a.MaxTime {
				continue
			}
			if a.snap == nil || b.snap == nil {
				return nil
			}
			own, others, ok, err := a.snap.Touching(ctx, b.snap)
			if !ok || err != nil {
				return nil // whoever reads them meets the error again
			}
			a.touching, b.touching = append(a.touching, own...), append(b.touching, others...)
		}
	}
	for i := range all {
		m := &all[i]
		slices.Sort(m.touching)
		m.touching = slices.Compact(m.touching)
		if 2*len(m.touching) > m.Streams {
			return nil
		}
	}
	return all
}

// cutStreams makes a chain of sessions that overlap in time, if they hardly have rows of
// the same streams at the same times: of each the streams that no other one has then, and
// a union of all the rest. What fails there has no copy anywhere else.
func (s *unionSession) cutStreams() bool {
	members := s.members(s.ctx)
	if members == nil {
		return false
	}
	var cut united
	var made []Session
	add := func(l link, of Session, name string) {
		l.session = len(cut.sessions)
		cut.sessions, cut.names = append(cut.sessions, of), append(cut.names, name)
		cut.chain = append(cut.chain, l)
	}
	part := func(m *member, streams []int) (Session, link) {
		p, ok := s.sessions[m.session].(Parter)
		if !ok {
			return nil, link{}
		}
		of, ok := p.Part(streams)
		if !ok {
			return nil, link{}
		}
		made = append(made, of)
		w := wholeOf(of)
		e, _ := w.extent()
		return of, link{Extent: e, of: w}
	}
	inner := &unionSession{start: s.start, end: s.end, ctx: s.ctx, cancel: func(error) {}}
	inner.off = s.off
	var tangled []Session
	var names []string
	for i := range members {
		m := &members[i]
		of, l, name := s.sessions[m.session], m.link, s.names[m.session]
		if len(m.touching) > 0 {
			those, _ := part(m, m.touching)
			if those != nil {
				of, l = part(m, without(m.Streams, m.touching))
			}
			if those == nil || of == nil {
				closeAll(made)
				return false
			}
			tangled, names = append(tangled, those), append(names, name)
		}
		if l.Streams > 0 {
			add(l, of, name)
		}
	}
	if len(tangled) > 0 {
		inner.united = newUnited(len(tangled))
		copy(inner.sessions, tangled)
		copy(inner.names, names)
		e, ok := inner.extent()
		if !ok {
			closeAll(made)
			return false
		}
		// What it opens itself is closed before what it is made of.
		made = append([]Session{innerCuts{inner}}, made...)
		add(link{Extent: e, of: inner}, inner, "sources that overlap")
	}
	slices.SortFunc(cut.chain, func(a, b link) int { return cmp.Compare(a.MinTime, b.MinTime) })
	for i := 1; i < len(cut.chain); i++ {
		cut.chain[i].first = cut.chain[i-1].first + cut.chain[i-1].Streams
	}
	n := len(cut.sessions)
	cut.streams, cut.failed, cut.causes, cut.mixed = make([][]Stream, n), make([]bool, n), make([]error, n), true
	spare := s.united
	s.united = cut
	s.spare, s.made, s.lasting = &spare, made, true
	return true
}

// innerCuts closes what a union was cut into, but not what it is of.
type innerCuts struct{ *unionSession }

func (s innerCuts) Close() error {
	s.uncut(&s.united)
	return nil
}

// without returns the numbers below n that are not among some, which ascend.
func without(n int, some []int) []int {
	out := make([]int, 0, n-len(some))
	for i := range n {
		if len(some) > 0 && some[0] == i {
			some = some[1:]
			continue
		}
		out = append(out, i)
	}
	return out
}
